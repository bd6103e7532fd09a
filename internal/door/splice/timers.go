package splice

import (
	"container/heap"
	"time"
)

// timers are the things that a loop does later. They are the loop's alone.
type timers struct{ heap timerHeap }

type timer struct {
	at time.Time
	f  func() // nil: stopped
}

type timerHeap []*timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)        { *h = append(*h, x.(*timer)) }
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return t
}

// add has f called by expire once d has passed.
func (t *timers) add(d time.Duration, f func()) (stop func()) {
	x := &timer{at: time.Now().Add(d), f: f}
	heap.Push(&t.heap, x)
	return func() { x.f = nil }
}

// next returns how long it is to the first timer; any is false when there is none.
func (t *timers) next() (d time.Duration, any bool) {
	for len(t.heap) > 0 && t.heap[0].f == nil {
		heap.Pop(&t.heap)
	}
	if len(t.heap) == 0 {
		return 0, false
	}
	return max(0, time.Until(t.heap[0].at)), true
}

// expire calls what is due, and after after each.
func (t *timers) expire(after func()) {
	if len(t.heap) == 0 {
		return
	}
	for now := time.Now(); len(t.heap) > 0 && !t.heap[0].at.After(now); {
		if x := heap.Pop(&t.heap).(*timer); x.f != nil {
			x.f()
			after()
		}
	}
}
