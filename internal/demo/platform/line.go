package platform

import (
	"strconv"
	"strings"
	"time"
)

// line writes rows in COPY's text format. The platform's own values hold no tab, newline or
// backslash, so nothing is escaped; the tests load every table.
type line struct {
	buf   []byte
	begun bool // a field of the row is already there
}

func (l *line) field() {
	if l.begun {
		l.buf = append(l.buf, '\t')
	}
	l.begun = true
}

func (l *line) end() {
	l.buf = append(l.buf, '\n')
	l.begun = false
}

func (l *line) int(n int64) {
	l.field()
	l.buf = strconv.AppendInt(l.buf, n, 10)
}

func (l *line) text(s string) {
	l.field()
	l.buf = append(l.buf, s...)
}

func (l *line) textOrNull(s string) {
	if s == "" {
		s = `\N`
	}
	l.text(s)
}

func (l *line) time(t time.Time) {
	l.field()
	l.buf = t.AppendFormat(l.buf, "2006-01-02 15:04:05Z07:00")
}

// date writes a date; the zero time is NULL.
func (l *line) date(t time.Time) {
	if t.IsZero() {
		l.text(`\N`)
		return
	}
	l.field()
	l.buf = t.AppendFormat(l.buf, time.DateOnly)
}

func (l *line) array(values []string) {
	l.text("{" + strings.Join(values, ",") + "}")
}
