package thriftc

import (
	"errors"
	"os"
	"path/filepath"
)

// output collects the files of an artefact and puts them into the folder
// only when all of them are complete.
type output struct {
	dir, tmp string
	made     []string // folders that did not exist before, innermost first
}

func newOutput(dir string) (*output, error) {
	o := &output{dir: dir}
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, os.ErrNotExist) {
			break
		}
		o.made = append(o.made, d)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		o.discard()
		return nil, err
	}
	var err error
	if o.tmp, err = os.MkdirTemp(dir, tmpPattern); err != nil {
		o.discard()
		return nil, err
	}
	return o, nil
}

// tmpPattern names the folders in which the files of an artefact are collected.
const tmpPattern = ".thriftc-*"

// sweepOutput removes what killed runs left in an output folder.
func sweepOutput(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, tmpPattern))
	for _, f := range left {
		err = errors.Join(err, os.RemoveAll(f))
	}
	return err
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
	o.made = nil
	return nil
}

// discard removes what was not committed.
func (o *output) discard() {
	if o.tmp != "" {
		os.RemoveAll(o.tmp)
	}
	for _, d := range o.made {
		os.Remove(d) // fails where somebody else has put something into it
	}
}
