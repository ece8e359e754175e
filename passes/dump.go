package passes

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/thriftc/thriftc/ir"
)

// dump writes the present graph as step number's, if a folder was asked for.
func (r *runner) dump(number int, name string) error {
	if r.o.DumpDir == "" {
		return nil
	}
	base := filepath.Join(r.o.DumpDir, fmt.Sprintf("%02d-%s", number, name))
	return errors.Join(writeGraph(base+".tir", r.g, ir.Print), writeGraph(base+".txt", r.g, ir.PrintShort))
}

func writeGraph(path string, g *ir.Graph, print func(io.Writer, *ir.Graph) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(print(f, g), f.Close())
}

// reproduce writes the graph before the failed step and the command that runs
// the step on it, and returns that command.
func (r *runner) reproduce(before *ir.Graph, s Step, failure error) (string, error) {
	graph := filepath.Join(r.o.ReproDir, "reproducer.tir")
	if err := writeGraph(graph, before, ir.Print); err != nil {
		return "", err
	}
	cmd := fmt.Sprintf("thriftc opt --passes=%s --seed=%d --threads=%d %s -o reproduced.tir",
		shellQuote(s.String()), r.c.Seed, r.c.Threads, shellQuote(graph))
	text := cmd + "\n\n" + failure.Error() + "\n"
	return cmd, os.WriteFile(filepath.Join(r.o.ReproDir, "reproducer.txt"), []byte(text), 0o666)
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
