package gateway

import "slices"

// fifo is a queue that keeps its memory: no allocation a message.
type fifo struct {
	items []awaited
	first int
}

func (f *fifo) len() int       { return len(f.items) - f.first }
func (f *fifo) head() *awaited { return &f.items[f.first] }
func (f *fifo) clear()         { f.items, f.first = f.items[:0], 0 }

func (f *fifo) push(a awaited) {
	if f.first > 0 && len(f.items) == cap(f.items) {
		n := copy(f.items, f.items[f.first:])
		f.items, f.first = f.items[:n], 0
	}
	f.items = append(f.items, a)
}

func (f *fifo) pop() awaited {
	a := f.items[f.first]
	if f.first++; f.first == len(f.items) {
		f.clear()
	}
	return a
}

// drop removes what match chooses and returns how many.
func (f *fifo) drop(match func(awaited) bool) int {
	before := f.len()
	rest := slices.DeleteFunc(f.items[f.first:], match)
	f.items = f.items[:f.first+len(rest)]
	if len(rest) == 0 {
		f.clear()
	}
	return before - len(rest)
}
