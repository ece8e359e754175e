package ort

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// Many is ONNX Runtime in a process that runs many small models in turn.
type Many struct {
	folder string
	cmd    *exec.Cmd
	in     io.WriteCloser
	lines  *bufio.Scanner
	errs   bytes.Buffer
}

// StartMany starts the process. The folder is for its files and must exist.
func StartMany(folder string) (*Many, error) {
	m := &Many{folder: folder}
	return m, m.start()
}

func (m *Many) start() error {
	m.errs.Reset()
	m.cmd = exec.Command("node", filepath.Join(dir(), "many.js"))
	m.cmd.Stderr = &m.errs
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if m.in, err = m.cmd.StdinPipe(); err != nil {
		return err
	}
	m.lines = bufio.NewScanner(out)
	m.lines.Buffer(nil, 1<<20)
	return m.cmd.Start()
}

// ErrEnded is the error of a model that ended the process instead of being refused.
var ErrEnded = errors.New("ONNX Runtime ended")

// Run runs an encoded model once and returns its outputs in the order of the file. After
// ErrEnded the next call has a new process.
func (m *Many) Run(model []byte, in []Named, o Optimise) ([]Named, error) {
	file := filepath.Join(m.folder, "model.onnx")
	if err := errors.Join(os.WriteFile(file, model, 0o600), writeInputs(m.folder, [][]Named{in})); err != nil {
		return nil, err
	}
	job, err := json.Marshal(map[string]string{"model": file, "dir": m.folder, "level": string(o)})
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(m.in, "%s\n", job); err != nil || !m.lines.Scan() {
		m.in.Close()
		err := fmt.Errorf("%w: %v: %s", ErrEnded, m.cmd.Wait(), bytes.TrimSpace(m.errs.Bytes()))
		return nil, errors.Join(err, m.start())
	}
	var a struct{ Error string }
	if err := json.Unmarshal(m.lines.Bytes(), &a); err != nil {
		return nil, err
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	out, err := readOutputs(m.folder)
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// Close ends the process.
func (m *Many) Close() error {
	m.in.Close()
	return m.cmd.Wait()
}
