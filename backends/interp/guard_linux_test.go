package interp

import (
	"os"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/thriftc/thriftc/ir/tensor"
)

// All tests run with memory between pages that cannot be read or written, so
// that a kernel that leaves what it was given ends the test program.
func TestMain(m *testing.M) {
	newFloats = func(n int) []float32 {
		f := guarded(n + slack)
		return f[:n:len(f)]
	}
	os.Exit(m.Run())
}

// maxGuarded bounds the guarded pieces, which are never given back: a process may have 65,530 mappings.
const maxGuarded = 12000

var guards atomic.Int64

// guarded returns n floats that hold NaNs, of which every second time the first
// and else the last lies next to a page that cannot be read or written.
func guarded(n int) []float32 {
	count := guards.Add(1)
	if n == 0 || count > maxGuarded {
		return make([]float32, n)
	}
	page := os.Getpagesize()
	size := (4*n + page - 1) / page * page
	m, err := unix.Mmap(-1, 0, size+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	for _, guard := range [][]byte{m[:page], m[page+size:]} {
		if err := unix.Mprotect(guard, unix.PROT_NONE); err != nil {
			panic(err)
		}
	}
	at := page
	if count%2 == 0 {
		at += size - 4*n
	}
	f := unsafe.Slice((*float32)(unsafe.Pointer(&m[at])), n)
	for i := range f {
		f[i] = nan
	}
	return f
}

// guardedCopy returns t in guarded memory if it holds floats.
func guardedCopy(t *tensor.Tensor) *tensor.Tensor {
	if t.Elem() != tensor.F32 {
		return t
	}
	f := guarded(t.Len())
	copy(f, t.Float32s())
	return tensor.Of(f, t.Shape()...)
}
