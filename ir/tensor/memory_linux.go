package tensor

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// memoryLeft returns how many bytes can still be had: the least of what Linux calls
// available and what the limits of the control groups (version 2) of the process leave.
func memoryLeft() (int64, bool) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	kB, known := statistic(text, "MemAvailable:")
	left := kB << 10
	own, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(own)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		for ok {
			dir := filepath.Join("/sys/fs/cgroup", path)
			if limit, used, limited := groupMemory(dir); limited {
				if left = max(0, min(left, limit-used)); !known {
					left, known = max(0, limit-used), true
				}
			}
			if path == "/" || path == "." || path == "" {
				break
			}
			path = filepath.Dir(path)
		}
	}
	return left, known
}

// groupMemory returns the limit of a control group and what is used of it, but for files
// that can be read again.
func groupMemory(dir string) (limit, used int64, limited bool) {
	text, err := os.ReadFile(filepath.Join(dir, "memory.max"))
	if err != nil {
		return 0, 0, false
	}
	if limit, err = strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err != nil {
		return 0, 0, false // "max"
	}
	if text, err = os.ReadFile(filepath.Join(dir, "memory.current")); err != nil {
		return 0, 0, false
	}
	if used, err = strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err != nil {
		return 0, 0, false
	}
	text, _ = os.ReadFile(filepath.Join(dir, "memory.stat"))
	for _, name := range []string{"inactive_file ", "active_file "} {
		n, _ := statistic(text, name)
		used -= n
	}
	return limit, max(0, used), true
}

// statistic returns the number that follows a name at the start of a line.
func statistic(text []byte, name string) (int64, bool) {
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, []byte(name))
		if !ok {
			continue
		}
		if f := bytes.Fields(rest); len(f) > 0 {
			n, err := strconv.ParseInt(string(f[0]), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
