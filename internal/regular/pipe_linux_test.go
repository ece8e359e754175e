package regular

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := Open(path)
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, ErrNot) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("waits for a pipe")
	}
}
