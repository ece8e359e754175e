package ort

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
)

// Server is ONNX Runtime's Python package in a process that runs many models in turn.
type Server struct {
	python string
	cmd    *exec.Cmd
	in     io.WriteCloser
	lines  *bufio.Scanner
	errs   bytes.Buffer
}

// Serve starts a server with a Python interpreter that has the package onnxruntime.
func Serve(python string) (*Server, error) {
	s := &Server{python: python}
	return s, s.start()
}

func (s *Server) start() error {
	s.errs.Reset()
	s.cmd = exec.Command(s.python, filepath.Join(dir(), "serve.py"))
	s.cmd.Stderr = &s.errs
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return err
	}
	s.lines = bufio.NewScanner(out)
	return s.cmd.Start()
}

// Run runs a model on the arrays of an npz file twice, with no optimisations and with
// all, and writes the outputs to off and all. It returns an error for each. A process that
// the model ends is an error of both, and the next call has a new one.
func (s *Server) Run(model, inputs, off, all string) (offErr, allErr error) {
	job, err := json.Marshal(map[string]any{"model": model, "inputs": inputs, "outputs": []string{off, all}})
	if err != nil {
		return err, err
	}
	if _, err := fmt.Fprintf(s.in, "%s\n", job); err != nil || !s.lines.Scan() {
		s.in.Close()
		err := fmt.Errorf("ONNX Runtime ended: %w: %s", errors.Join(err, s.cmd.Wait()), bytes.TrimSpace(s.errs.Bytes()))
		if again := s.start(); again != nil {
			err = errors.Join(err, again)
		}
		return err, err
	}
	var a struct {
		Errors [2]string
	}
	if err := json.Unmarshal(s.lines.Bytes(), &a); err != nil {
		return err, err
	}
	if a.Errors[0] != "" {
		offErr = errors.New(a.Errors[0])
	}
	if a.Errors[1] != "" {
		allErr = errors.New(a.Errors[1])
	}
	return offErr, allErr
}

// Close ends the process.
func (s *Server) Close() error {
	s.in.Close()
	return s.cmd.Wait()
}
