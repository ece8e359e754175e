package tensor

import (
	"errors"
	"runtime"
	"testing"
)

func TestReserve(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("nothing is known of the memory here")
	}
	left, known := memoryLeft()
	if !known || left <= 0 {
		t.Fatalf("memory left: %d, %v", left, known)
	}
	if err := Reserve(left * 2); !errors.Is(err, ErrTooLarge) {
		t.Errorf("twice the memory there is: %v", err)
	}
	if err := Reserve(smallBytes); err != nil && left > 4*smallBytes {
		t.Error(err)
	}
}

func TestStatistic(t *testing.T) {
	text := []byte("MemFree:  7 kB\nMemAvailable:   123 kB\ninactive_file 5\nx\n")
	for name, want := range map[string]int64{"MemAvailable:": 123, "inactive_file ": 5} {
		if got, ok := statistic(text, name); !ok || got != want {
			t.Errorf("%s %d, %v", name, got, ok)
		}
	}
	if _, ok := statistic(text, "x"); ok {
		t.Error("a name without a number")
	}
}
