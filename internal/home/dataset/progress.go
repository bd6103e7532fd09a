package dataset

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Progress is told how far a build is. Its methods may be called from several goroutines.
type Progress interface {
	Stage(stage string, tables int)          // tables, foreign keys, swap
	Expect(table string, rows, bytes int64)  // an estimate, before a table is read
	Advance(table string, rows, bytes int64) // read since the last call
	Done(table string, rows int64)           // a table stands
}

// silent is a Progress that tells nobody.
type silent struct{}

func (silent) Stage(string, int)            {}
func (silent) Expect(string, int64, int64)  {}
func (silent) Advance(string, int64, int64) {}
func (silent) Done(string, int64)           {}

// lineProgress prints plain lines: stages, tables, and every few seconds how far it is.
type lineProgress struct {
	w     io.Writer
	now   func() time.Time
	start time.Time

	mu             sync.Mutex
	expected, rows int64
	bytes          int64
	last           time.Time
}

// lineEvery is the least time between two lines of progress.
const lineEvery = 5 * time.Second

// Lines is a Progress for files and pipes.
func Lines(w io.Writer) Progress {
	return &lineProgress{w: w, now: time.Now, start: time.Now(), last: time.Now()}
}

func (p *lineProgress) Stage(stage string, tables int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if tables > 0 { // a build begins
		p.expected, p.rows, p.bytes, p.start, p.last = 0, 0, 0, p.now(), p.now()
		fmt.Fprintf(p.w, "%s: %d\n", stage, tables)
		return
	}
	fmt.Fprintln(p.w, stage)
}

func (p *lineProgress) Expect(_ string, rows, _ int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected += max(rows, 0)
}

func (p *lineProgress) Advance(_ string, rows, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows, p.bytes = p.rows+rows, p.bytes+bytes
	now := p.now()
	if now.Sub(p.last) < lineEvery {
		return
	}
	p.last = now
	eta := "?"
	if p.expected > p.rows && p.rows > 0 {
		eta = (now.Sub(p.start) * time.Duration(p.expected-p.rows) / time.Duration(p.rows)).Round(time.Second).String()
	}
	fmt.Fprintf(p.w, "read %d rows of about %d, %d MiB, %s to go\n", p.rows, p.expected, p.bytes>>20, eta)
}

func (p *lineProgress) Done(table string, rows int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "%s: %d rows\n", table, rows)
}

// barProgress draws one bar over the rows of all tables.
type barProgress struct {
	mu       sync.Mutex
	bar      *progressbar.ProgressBar
	expected int64
	bytes    int64
}

// Bar is a Progress for a terminal: rows, rate, time to go; the bytes read stand beside.
func Bar(w io.Writer) Progress {
	return &barProgress{bar: progressbar.NewOptions64(-1, progressbar.OptionSetWriter(w), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("rows"), progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30))}
}

// What a terminal cannot show is no reason to fail a build: the bar's errors are dropped.

func (p *barProgress) Stage(stage string, tables int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if tables > 0 { // a build begins
		p.expected, p.bytes = 0, 0
		p.bar.Reset()
	}
	if stage == "swap" {
		_ = p.bar.Finish()
		return
	}
	p.bar.Describe(stage)
}

func (p *barProgress) Expect(_ string, rows, _ int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected += max(rows, 0)
	p.bar.ChangeMax64(p.expected)
}

func (p *barProgress) Advance(_ string, rows, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes += bytes
	p.bar.Describe(fmt.Sprintf("%d MiB", p.bytes>>20))
	if done := p.bar.State().CurrentNum + rows; done > p.expected { // the estimate was too low
		p.expected = done
		p.bar.ChangeMax64(p.expected)
	}
	_ = p.bar.Add64(rows)
}

func (p *barProgress) Done(string, int64) {}
