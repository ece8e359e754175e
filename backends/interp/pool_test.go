package interp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Every task is run once, also when helpers sleep, come late, or are more than cores.
func TestPool(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, workers := range []int{1, 2, 3, 5, runtime.GOMAXPROCS(0) + 3} {
		p := newPool(workers)
		for call := range 2000 {
			n := rnd.IntN(20)
			done := make([]int, n)
			if err := p.parallel(t.Context(), n, func(_, i int) { done[i]++ }); err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(done, func(k int) bool { return k != 1 }) {
				t.Fatalf("%d workers: tasks were run so often: %v", workers, done)
			}
			if call%500 == 0 {
				time.Sleep(2 * time.Millisecond) // helpers fall asleep
			}
		}
		p.close()
	}
}

// A worker has its number to itself while it works.
func TestPoolWorkers(t *testing.T) {
	const workers = 3
	p := newPool(workers)
	defer p.close()
	var at [workers]atomic.Int32
	var sums [workers]uint64
	for range 200 {
		err := p.parallel(t.Context(), 10, func(worker, _ int) {
			if at[worker].Add(1) != 1 {
				panic("two tasks at once")
			}
			sums[worker] += busy(100)
			at[worker].Add(-1)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestPoolPanics(t *testing.T) {
	for _, workers := range []int{1, 2, 5} {
		p := newPool(workers)
		for range 20 {
			err := p.parallel(t.Context(), 100, func(_, i int) {
				if i == 50 {
					panic("fifty")
				}
			})
			if err == nil || !strings.Contains(err.Error(), "fifty") {
				t.Errorf("%d workers: panic became %v", workers, err)
			}
			if err := p.parallel(t.Context(), 10, func(_, _ int) {}); err != nil {
				t.Errorf("%d workers: the call after a panic: %v", workers, err)
			}
		}
		p.close()
	}
}

func TestPoolStops(t *testing.T) {
	for _, workers := range []int{1, 2} {
		p := newPool(workers)
		ctx, cancel := context.WithCancel(t.Context())
		var ran atomic.Int32
		err := p.parallel(ctx, 1000, func(_, i int) {
			if ran.Add(1) == 5 {
				cancel()
			}
			time.Sleep(time.Millisecond)
		})
		if !errors.Is(err, context.Canceled) || ran.Load() > 5+2*int32(workers) {
			t.Errorf("%d workers: %d tasks ran, error %v", workers, ran.Load(), err)
		}
		p.close()
	}
}

// A helper that does not get a core delays nothing.
func TestPoolDoesNotAwaitLateHelpers(t *testing.T) {
	p := &pool{workers: 2, shares: make([]share, 2), helpers: []*helper{{wake: make(chan struct{}, 1)}}}
	ran := 0
	if err := p.parallel(t.Context(), 10, func(_, _ int) { ran++ }); err != nil || ran != 10 {
		t.Errorf("%d of 10 tasks ran, error %v", ran, err)
	}
}

func TestPoolAllocatesNothing(t *testing.T) {
	p := newPool(2)
	defer p.close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	task := func(_, _ int) {}
	if n := testing.AllocsPerRun(1000, func() { p.parallel(ctx, 8, task) }); n != 0 {
		t.Errorf("%v allocations for each call", n)
	}
}

func TestPoolEnds(t *testing.T) {
	before := runtime.NumGoroutine()
	for i := range 20 {
		p := newPool(4)
		if i%2 == 0 {
			p.parallel(t.Context(), 8, func(_, _ int) {})
		}
		if i%3 == 0 {
			time.Sleep(time.Millisecond)
		}
		p.close()
	}
	// A goroutine is counted for a moment after its function has returned.
	for range 1000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

// busy computes for about n ns.
func busy(n int) uint64 {
	x := uint64(1)
	for range n {
		x = x*6364136223846793005 + 1
	}
	return x
}

// What a parallel call of two equal tasks costs beyond the time of one: the
// median of all calls, and the best tenth, for machines with other work.
func BenchmarkParallel(b *testing.B) {
	for _, ns := range []int{0, 1000, 5000, 20000, 200000} {
		b.Run(fmt.Sprint(ns), func(b *testing.B) {
			p := newPool(2)
			defer p.close()
			var done [2][8]int
			var sink [2][8]uint64
			task := func(worker, _ int) { sink[worker][0] += busy(ns); done[worker][0]++ }
			var alone, times []time.Duration
			for range 1000 {
				start := time.Now()
				task(0, 0)
				alone = append(alone, time.Since(start))
			}
			slices.Sort(alone)
			done[0][0] = 0
			for b.Loop() {
				start := time.Now()
				if err := p.parallel(context.Background(), 2, task); err != nil {
					b.Fatal(err)
				}
				times = append(times, time.Since(start))
			}
			slices.Sort(times)
			b.ReportMetric(float64(done[1][0])/float64(done[0][0]+done[1][0]), "helped")
			b.ReportMetric(float64(times[len(times)/2]-alone[len(alone)/2]), "ns-over")
			b.ReportMetric(float64(times[len(times)/10]-alone[len(alone)/10]), "ns-over-p10")
		})
	}
}
