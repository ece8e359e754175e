package main

import (
	"errors"
	"os"
	"path/filepath"
)

// output collects the files of an artefact and puts them into the folder
// only when all of them are complete.
type output struct {
	dir, tmp string
	made     bool // dir did not exist before
}

func newOutput(dir string) (*output, error) {
	o := &output{dir: dir}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		o.made = true
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if o.tmp, err = os.MkdirTemp(dir, ".thriftc-*"); err != nil {
		o.discard()
		return nil, err
	}
	return o, nil
}

func (o *output) path(name string) string { return filepath.Join(o.tmp, name) }

// commit moves the files into place.
func (o *output) commit() error {
	files, err := os.ReadDir(o.tmp)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := os.Rename(o.path(f.Name()), filepath.Join(o.dir, f.Name())); err != nil {
			return err
		}
	}
	o.made = false
	return nil
}

// discard removes what was not committed.
func (o *output) discard() {
	if o.tmp != "" {
		os.RemoveAll(o.tmp)
	}
	if o.made {
		os.Remove(o.dir)
	}
}
