package thriftc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"

	"github.com/thriftc/thriftc/internal/train"
)

// output is a folder that a run writes. The run alone writes there as long as the output is open, and
// the files of its artefact appear when all of them are complete.
type output struct {
	dir, tmp string
	made     []string // folders that did not exist before, innermost first
	lock     *flock.Flock
	complete bool
}

// lockFile holds the number of the process that writes to the folder. It stays when
// a run ends before it is complete and leaves something to go on from.
const lockFile = ".thriftc.lock"

// tmpPattern names the folders in which the files of an artefact are collected.
const tmpPattern = ".thriftc-*"

// newOutput makes a folder, or takes one that nobody writes to. One that holds an interrupted
// run is refused, as it is, unless that is to be resumed.
func newOutput(dir string, resume bool) (*output, error) {
	o := &output{dir: dir}
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, os.ErrNotExist) {
			break
		}
		o.made = append(o.made, d)
	}
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = o.open(resume)
	}
	if err != nil {
		o.close()
		return nil, fmt.Errorf("-o %s cannot be written: %w", dir, err)
	}
	return o, nil
}

func (o *output) open(resume bool) error {
	left, err := o.claim()
	if err != nil {
		return err
	}
	if !resume {
		if err := train.Interrupted(filepath.Join(o.dir, checkpointsDir)); err != nil {
			return err
		}
		if left && resumable(o.dir) {
			return fmt.Errorf("it holds a run that was interrupted: go on with --resume, give another folder, or remove %s and %s there", checkpointsDir, journalFile)
		}
	}
	// What killed runs left.
	old, err := filepath.Glob(filepath.Join(o.dir, tmpPattern))
	for _, f := range old {
		err = errors.Join(err, os.RemoveAll(f))
	}
	if err != nil {
		return err
	}
	o.tmp, err = os.MkdirTemp(o.dir, tmpPattern)
	return err
}

// claim locks the folder and reports whether an earlier run did not come to its end.
// The operating system releases the lock when the process ends, however it does.
func (o *output) claim() (left bool, err error) {
	file := filepath.Join(o.dir, lockFile)
	for {
		lock := flock.New(file)
		switch ok, err := lock.TryLock(); {
		case err != nil:
			return false, err
		case !ok:
			owner, _ := os.ReadFile(file) // for the message only
			return false, fmt.Errorf("another run of thriftc writes to this folder (process %s); wait for its end, or give another folder", strings.TrimSpace(string(owner)))
		}
		ours, err := lock.Stat()
		if err != nil {
			return false, errors.Join(err, lock.Close())
		}
		if named, err := os.Stat(file); err != nil || !os.SameFile(ours, named) {
			lock.Close() // a run that ended has removed the file between our opening and locking it
			continue
		}
		o.lock = lock
		// Where the system keeps others from a locked file's content, the number is missing in messages only.
		_ = os.WriteFile(file, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o644)
		return ours.Size() > 0, nil
	}
}

// resumable reports whether a folder holds something that a run can go on from.
func resumable(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, journalFile))
	return err == nil || train.Started(filepath.Join(dir, checkpointsDir))
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
	o.complete = true
	return nil
}

// close removes what was not committed and lets others write to the folder.
func (o *output) close() {
	if o.tmp != "" {
		os.RemoveAll(o.tmp)
	}
	if o.lock != nil {
		began := resumable(o.dir)
		if !began {
			os.Remove(filepath.Join(o.dir, settingsFile))
			os.Remove(filepath.Join(o.dir, checkpointsDir)) // fails where something is in it
		}
		if o.complete || !began {
			os.Remove(o.lock.Path())
		}
		o.lock.Close()
	}
	for _, d := range o.made {
		os.Remove(d) // fails where something is in it
	}
}
