// Package regular opens files that can be read to their end: a named pipe or a device
// would be waited for without end.
package regular

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrNot is wrapped by the errors for folders, pipes, devices and sockets.
var ErrNot = errors.New("not a regular file")

// Open opens a file to be read, or the file that a link leads to. It is looked at
// before it is opened, because opening a pipe already waits.
func Open(path string) (*os.File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", path, ErrNot)
	}
	return os.Open(path)
}

// Read returns what a file holds, which must be at most limit bytes.
func Read(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, limit)
	}
	return data, err
}
