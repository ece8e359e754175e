package tensor

import (
	"fmt"
	"runtime/debug"
)

// smallBytes is what is allocated without asking whether there is memory for it.
const smallBytes = 64 << 20

// Reserve returns an error that wraps ErrTooLarge when the machine, or the control group
// that the process is in, has less memory left than n bytes. Memory that runs out
// would end the process without a word about what took it. Where nothing is known of
// the memory, and for less than 64 MiB, it returns nil.
func Reserve(n int64) error {
	if n < smallBytes {
		return nil
	}
	if left, known := memoryLeft(); !known || n <= left {
		return nil
	}
	debug.FreeOSMemory() // what is garbage is not missing
	left, known := memoryLeft()
	if !known || n <= left {
		return nil
	}
	return fmt.Errorf("%w: %.1f GB are needed, there are %.1f GB of memory left", ErrTooLarge, 1e-9*float64(n), 1e-9*float64(left))
}
