package interp

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// pool is a fixed set of threads that work off numbered tasks. The caller of
// parallel is worker 0; the others are helpers.
//
// Between two calls of parallel there is often less than a microsecond, while
// waking a thread that sleeps takes ten or more. So helpers watch for work
// for a while before they sleep, giving way to whatever else wants to run. A
// helper that comes late is not waited for: once the tasks are taken, a call
// waits only for helpers that have taken one.
//
// A caller writes state and then reads who sleeps; a helper writes that it
// sleeps and then reads state. If both reads came before both writes, the
// helper would sleep for ever. So these writes are Swap and Or, not Store,
// though Go orders all of them: qemu-user on x86 lets an arm64 load-acquire
// pass a store-release, which is what Store and Load are there.
type pool struct {
	workers int
	helpers []*helper
	spins   int // how often helpers, and the caller at the end, look before they sleep
	ended   sync.WaitGroup

	// The call that is going on.
	ctx     context.Context
	stop    <-chan struct{} // of ctx
	task    func(worker, i int)
	shares  []share // of the tasks, one for each worker
	mu      sync.Mutex
	err     error         // the first; guarded by mu
	failed  atomic.Bool   // nobody starts another task
	allLeft chan struct{} // told by the last helper when the caller sleeps

	_     [64]byte // state is written by all: it has a cache line of its own
	state atomic.Uint64
	_     [64]byte
}

// The state: the number of the call in the upper half, then these, then the
// number of helpers at work.
const (
	open    = 1 << 31 // helpers may enter
	asleep  = 1 << 30 // the caller sleeps until the last helper leaves
	closing = 1 << 29 // helpers must end
	atWork  = closing - 1
)

type helper struct {
	sleeps atomic.Bool
	wake   chan struct{}
}

// share is the tasks that are a worker's to begin with; who has none left takes from others.
type share struct {
	next atomic.Int64
	end  int64
	_    [48]byte
}

// The length of watching: rounds of so many looks, with a chance for others to
// run between them; about 100 µs in all.
const (
	spinRounds = 300
	spinLooks  = 100
)

func newPool(workers int) *pool {
	p := &pool{workers: workers, shares: make([]share, workers), allLeft: make(chan struct{}, 1)}
	if workers <= runtime.GOMAXPROCS(0) { // with more, watching would take cores from work
		p.spins = spinRounds
	}
	for w := 1; w < workers; w++ {
		h := &helper{wake: make(chan struct{}, 1)}
		p.helpers = append(p.helpers, h)
		p.ended.Go(func() { p.help(h, w) })
	}
	return p
}

func (p *pool) close() {
	p.state.Or(closing)
	p.wakeUp(len(p.helpers))
	p.ended.Wait()
}

// parallel runs task for i in [0, n), each once, in any order and on any
// worker. Tasks must not depend on each other. It returns early with an error
// when ctx is done or a task panics. Calls must not overlap.
func (p *pool) parallel(ctx context.Context, n int, task func(worker, i int)) error {
	p.ctx, p.stop, p.task = ctx, ctx.Done(), task
	for w := range p.shares {
		p.shares[w].next.Store(int64(n * w / p.workers))
		p.shares[w].end = int64(n * (w + 1) / p.workers)
	}
	helpers := min(len(p.helpers), n-1)
	if helpers > 0 {
		p.state.Swap((p.state.Load()>>32+1)<<32 | open)
		p.wakeUp(helpers)
	}
	p.work(0)
	if helpers > 0 {
		p.finish()
	}
	p.task = nil
	if !p.failed.Load() {
		return nil
	}
	err := p.err
	p.err = nil
	p.failed.Store(false)
	return err
}

func (p *pool) wakeUp(n int) {
	for _, h := range p.helpers[:n] {
		if h.sleeps.Load() && h.sleeps.CompareAndSwap(true, false) {
			h.wake <- struct{}{}
		}
	}
}

// finish lets no more helpers in and waits for those at work.
func (p *pool) finish() {
	p.state.And(^uint64(open))
	for range p.spins {
		for range spinLooks {
			if p.state.Load()&atWork == 0 {
				return
			}
		}
		runtime.Gosched()
	}
	for {
		s := p.state.Load()
		if s&atWork == 0 {
			return
		}
		if p.state.CompareAndSwap(s, s|asleep) {
			<-p.allLeft
			return
		}
	}
}

// help is the life of a helper.
func (p *pool) help(h *helper, worker int) {
	last := p.state.Load() >> 32 // the call that was looked at last
	for {
		s := p.await(h, last)
		if s&closing != 0 {
			return
		}
		for s>>32 != last && s&open != 0 {
			if p.state.CompareAndSwap(s, s+1) {
				last = s >> 32
				p.work(worker)
				if s := p.state.Add(^uint64(0)); s&atWork == 0 && s&asleep != 0 {
					p.allLeft <- struct{}{}
				}
			}
			s = p.state.Load()
		}
		last = s >> 32
	}
}

// await returns the state when it has another call than the last, or is closing.
func (p *pool) await(h *helper, last uint64) uint64 {
	news := func(s uint64) bool { return s>>32 != last || s&closing != 0 }
	for {
		for range p.spins {
			for range spinLooks {
				if s := p.state.Load(); news(s) {
					return s
				}
			}
			runtime.Gosched()
		}
		h.sleeps.Swap(true)
		if s := p.state.Load(); news(s) {
			if !h.sleeps.CompareAndSwap(true, false) {
				<-h.wake // somebody is waking this helper
			}
			return s
		}
		<-h.wake
	}
}

// work runs tasks until there are none left.
func (p *pool) work(worker int) {
	defer func() {
		if r := recover(); r != nil {
			p.fail(fmt.Errorf("kernel failed: %v\n%s", r, debug.Stack()))
		}
	}()
	for v := range p.workers {
		own := &p.shares[(worker+v)%p.workers]
		for {
			i := own.next.Load()
			if i >= own.end {
				break
			}
			if i = own.next.Add(1) - 1; i >= own.end || p.failed.Load() {
				break
			}
			select {
			case <-p.stop:
				p.fail(p.ctx.Err())
				return
			default:
			}
			p.task(worker, int(i))
		}
	}
}

func (p *pool) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	p.failed.Store(true)
}
