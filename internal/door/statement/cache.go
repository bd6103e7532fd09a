package statement

import (
	"container/list"
	"sync"
)

// Bounds of the cache: entries, and the longest text that is kept.
const (
	cacheEntries = 2048
	cacheText    = 16 << 10
)

// Classifier analyses texts for one dataset and remembers the latest ones. It is safe for
// concurrent use.
type Classifier struct {
	known Known

	mu     sync.Mutex
	byText map[string]*list.Element
	recent *list.List // of *entry, newest first
}

type entry struct {
	text string
	info *Info
}

// NewClassifier makes a classifier for a dataset that defines the given tables (schema.table).
func NewClassifier(tables []string) *Classifier {
	return &Classifier{known: NewKnown(tables), byText: map[string]*list.Element{}, recent: list.New()}
}

// Analyze says what a text is, whatever the session's state.
func (c *Classifier) Analyze(text string) *Info {
	if len(text) > cacheText {
		return analyze(text, c.known)
	}
	c.mu.Lock()
	if e, ok := c.byText[text]; ok {
		c.recent.MoveToFront(e)
		info := e.Value.(*entry).info
		c.mu.Unlock()
		return info
	}
	c.mu.Unlock()
	info := analyze(text, c.known)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byText[text]; !ok {
		c.byText[text] = c.recent.PushFront(&entry{text, info})
		if c.recent.Len() > cacheEntries {
			oldest := c.recent.Back()
			c.recent.Remove(oldest)
			delete(c.byText, oldest.Value.(*entry).text)
		}
	}
	return info
}

// Oversized is the Info of a text that is too long to be read.
func Oversized() *Info {
	return &Info{Kind: "unparsed", Count: 1, steps: []step{{upTo: never, after: dirty}}}
}

// FunctionCall is the Info of the protocol's FunctionCall message: it is never covered.
func FunctionCall() *Info {
	return &Info{Kind: "function-call", Count: 1, steps: []step{{upTo: never, after: dirty}}}
}
