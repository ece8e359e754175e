// Command thriftc compresses ONNX models: it reads a model, transforms it with
// compiler passes, and writes a smaller one that provably still works.
//
// There is one file per subcommand; this one holds what they share.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/thriftc/thriftc"
)

// Exit codes, documented in the root command's help and in docs/cli.md.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitUnsupported = 3
	exitBudget      = 4
	exitDiffer      = 5
	exitCancelled   = 130
)

var exitCodes = map[thriftc.Kind]int{
	thriftc.Failed: exitFailed, thriftc.Usage: exitUsage, thriftc.Unsupported: exitUnsupported,
	thriftc.Budget: exitBudget, thriftc.Differ: exitDiffer, thriftc.Cancelled: exitCancelled,
}

func usageError(format string, args ...any) error {
	return &thriftc.Error{Kind: thriftc.Usage, Err: fmt.Errorf(format, args...)}
}

func main() {
	boundGarbage()
	os.Exit(mainCode())
}

// mainCode is main without the exit, so that end-to-end tests can run it as a command.
func mainCode() int {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE} // a pipe whose reader has gone
	if !signal.Ignored(syscall.SIGHUP) {                                   // it is, under nohup
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	return run(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	out := &output{Writer: stdout}
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(stderr)
	c, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if errors.Is(err, syscall.EPIPE) { // nobody reads what is printed
		err = context.Canceled
	}
	printError(stderr, err)
	if wantsJSON(c, args) && (!out.used || c.Name() == "train") {
		printFailure(stdout, err)
	}
	return exitCodes[thriftc.KindOf(err)]
}

// output is the standard output; used tells whether anything was printed.
type output struct {
	io.Writer
	used bool
}

// Write writes and remembers it.
func (o *output) Write(p []byte) (int, error) {
	o.used = true
	return o.Writer.Write(p)
}

// wantsJSON reports whether the user asked for JSON, if need be with flags that could not be read.
func wantsJSON(c *cobra.Command, args []string) bool {
	format := c.Flags().Lookup("format")
	return slices.Contains(args, "--json") || slices.Contains(args, "--json=true") || format != nil && format.Value.String() == "json"
}

// printFailure prints a failure as JSON, on a line.
func printFailure(w io.Writer, err error) {
	kind := thriftc.KindOf(err)
	failure := struct {
		Error string `json:"error"`
		Hint  string `json:"hint,omitempty"`
		Kind  string `json:"kind"`
		Code  int    `json:"exit_code"`
	}{err.Error(), "", kind.String(), exitCodes[kind]}
	var e *thriftc.Error
	if errors.As(err, &e) {
		failure.Hint = e.Hint
	}
	_ = json.NewEncoder(w).Encode(failure) // the exit code says it, too
}

func printError(w io.Writer, err error) {
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(w, "thriftc: cancelled")
		return
	}
	fmt.Fprintln(w, "thriftc: error:", strings.TrimRight(strings.ReplaceAll(readable(err.Error()), "\n", "\n  "), "\n "))
	var e *thriftc.Error
	if errors.As(err, &e) && e.Hint != "" {
		fmt.Fprintln(w, "thriftc: hint:", e.Hint)
	}
}

const rootHelp = `thriftc compresses ONNX models: it reads a model, transforms it with compiler
passes, and writes a smaller model that every ONNX runtime can run, with a
report of what changed.

Exit codes:
  0    done
  1    failed
  2    wrong usage
  3    model or operator not supported
  4    budget not met (the best artefact is still written, budget_met: false)
  5    results differ
  130  cancelled`

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "thriftc",
		Short:         "Compress ONNX models",
		Long:          rootHelp,
		Example:       "  thriftc compress testmodels/glyphs.onnx --data testmodels/glyphs/desc.yaml -o out/",
		Version:       thriftc.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &thriftc.Error{Kind: thriftc.Usage, Err: err, Hint: fmt.Sprintf("'%s --help' lists the flags", c.CommandPath())}
	})
	root.AddCommand(
		newCompress(), newTrain(), newEval(), newCompare(), newInspect(), newBench(), newRun(), newOpt(),
		newCheck(), newGate(), newPasses(), newOps(), newVersion(),
	)
	for _, c := range root.Commands() {
		args := c.Args
		c.Args = func(c *cobra.Command, a []string) error {
			if err := args(c, a); err != nil {
				return &thriftc.Error{Kind: thriftc.Usage, Err: err, Hint: "usage: " + c.UseLine()}
			}
			return nil
		}
	}
	root.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			msg := fmt.Sprintf("unknown command %q", args[0])
			if s := c.SuggestionsFor(args[0]); len(s) > 0 {
				msg += ", did you mean " + strings.Join(s, " or ") + "?"
			}
			return &thriftc.Error{Kind: thriftc.Usage, Err: errors.New(msg), Hint: "'thriftc --help' lists the commands"}
		}
		return c.Help()
	}
	root.SetVersionTemplate(versionLine())
	addCompletion(root)
	root.Args = cobra.ArbitraryArgs
	root.SuggestionsMinimumDistance = 2
	return root
}
