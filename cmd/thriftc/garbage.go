package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// maxGarbage is about how many bytes that nothing refers to any more may gather before they
// are collected, where more is in use. The collector's own rule allows as much as is in use, which for
// weights of a gigabyte is another one; and it passes over weights, which hold no pointers, in no time.
const maxGarbage = 64 << 20

// boundGarbage keeps the heap to what is in use and maxGarbage, or a twentieth more. Nothing is
// done where GOGC says how much garbage is wanted.
func boundGarbage() {
	if os.Getenv("GOGC") != "" {
		return
	}
	type sentinel struct{ _ [16]byte }
	var collected func(*sentinel) // after every collection
	collected = func(s *sentinel) {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		debug.SetGCPercent(garbagePercent(live[0].Value.Uint64()))
		runtime.SetFinalizer(s, collected)
	}
	runtime.SetFinalizer(&sentinel{}, collected)
}

// garbagePercent returns the setting of the collector for live bytes in use.
func garbagePercent(live uint64) int {
	return int(min(max(100*maxGarbage/max(live, 1), 5), 100))
}
