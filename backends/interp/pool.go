package interp

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// pool is a fixed set of threads that work off numbered tasks. The caller of
// parallel is worker 0.
type pool struct {
	workers int
	wake    []chan *job
	done    sync.WaitGroup
}

type job struct {
	ctx  context.Context
	task func(worker, i int)
	n    int
	next atomic.Int64
	left sync.WaitGroup
	once sync.Once
	err  error
}

func newPool(workers int) *pool {
	p := &pool{workers: workers}
	for w := 1; w < workers; w++ {
		c := make(chan *job, 1)
		p.wake = append(p.wake, c)
		p.done.Go(func() {
			for j := range c {
				j.work(w)
				j.left.Done()
			}
		})
	}
	return p
}

func (p *pool) close() {
	for _, c := range p.wake {
		close(c)
	}
	p.done.Wait()
}

// parallel runs task for i in [0, n), each once, in any order and on any
// worker. Tasks must not depend on each other. It returns early with an error
// when ctx is done or a task panics.
func (p *pool) parallel(ctx context.Context, n int, task func(worker, i int)) error {
	j := &job{ctx: ctx, task: task, n: n}
	helpers := min(len(p.wake), n-1)
	if helpers > 0 {
		j.left.Add(helpers)
		for _, c := range p.wake[:helpers] {
			c <- j
		}
	}
	j.work(0)
	j.left.Wait()
	return j.err
}

func (j *job) work(worker int) {
	defer func() {
		if r := recover(); r != nil {
			j.fail(fmt.Errorf("kernel failed: %v\n%s", r, debug.Stack()))
		}
	}()
	for {
		i := int(j.next.Add(1)) - 1
		if i >= j.n {
			return
		}
		if err := j.ctx.Err(); err != nil {
			j.fail(err)
			return
		}
		j.task(worker, i)
	}
}

func (j *job) fail(err error) {
	j.once.Do(func() { j.err = err })
	j.next.Store(int64(j.n)) // nobody starts another task
}
