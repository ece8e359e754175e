// Package atomicfile writes files that appear complete or not at all.
package atomicfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// Write writes a file with mode 0644 under a temporary name in the same folder
// and renames it to path when write has succeeded. After an error path is as it was.
func Write(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync() // a rename must not outlive the data when the machine stops
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// Same returns the first of some files that path names, too, be it through symbolic or
// hard links; "" if it names none of them.
func Same(path string, files ...string) string {
	st, err := os.Stat(path)
	if err != nil {
		return ""
	}
	for _, f := range files {
		if other, err := os.Stat(f); err == nil && os.SameFile(st, other) {
			return f
		}
	}
	return ""
}
