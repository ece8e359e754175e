package ort

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// Session is a model that ONNX Runtime, in a process of its own, has loaded
// with all optimisations, to be timed.
type Session struct {
	// Versions and Options are what the process says of itself.
	Versions string
	Options  string
	// Out is the outputs of the first run.
	Out []Named

	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
	errs  bytes.Buffer
}

// Start loads a model file and runs it once on the given inputs, which are also those of all later runs.
func Start(ctx context.Context, model string, in []Named, threads int) (*Session, error) {
	tmp, err := os.MkdirTemp("", "thriftc-ort-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	if err := writeInputs(tmp, [][]Named{in}); err != nil {
		return nil, err
	}
	if model, err = filepath.Abs(model); err != nil {
		return nil, err
	}
	s := &Session{cmd: exec.CommandContext(ctx, "node", filepath.Join(dir(), "time.js"), model, tmp, strconv.Itoa(threads))}
	s.cmd.Stderr = &s.errs
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.lines = bufio.NewScanner(out)
	s.lines.Buffer(nil, 16<<20)
	var about struct {
		Version, Node string
		Options       json.RawMessage
	}
	if err := s.answer(&about); err != nil {
		s.Close()
		return nil, err
	}
	s.Versions = fmt.Sprintf("ONNX Runtime %s, node %s", about.Version, about.Node)
	s.Options = string(about.Options)
	outs, err := readOutputs(tmp)
	if err != nil {
		s.Close()
		return nil, err
	}
	s.Out = outs[0]
	return s, nil
}

func (s *Session) answer(v any) error {
	if !s.lines.Scan() {
		s.in.Close()
		s.cmd.Wait()
		return fmt.Errorf("ONNX Runtime: %s", bytes.TrimSpace(s.errs.Bytes()))
	}
	return json.Unmarshal(s.lines.Bytes(), v)
}

// Time makes n runs and returns the milliseconds of each, and the milliseconds
// of processor time that one took, of all threads together.
func (s *Session) Time(n int) (ms []float64, cpu float64, err error) {
	if _, err := fmt.Fprintln(s.in, n); err != nil {
		return nil, 0, err
	}
	var a struct {
		MS  []float64
		CPU float64
	}
	err = s.answer(&a)
	return a.MS, a.CPU, err
}

// Close ends the process.
func (s *Session) Close() {
	s.in.Close()
	s.cmd.Wait()
}
