package demo

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// Claim is one thing that the story says, with the check that it is so.
type Claim struct {
	ID    string // also the name of its sabotage
	Text  string // plain English
	Check func(context.Context, *World, *Evidence) error
}

// Evidence collects the lines that a check shows.
type Evidence struct{ lines []string }

// Show adds lines of evidence.
func (e *Evidence) Show(lines ...string) { e.lines = append(e.lines, lines...) }

// Showf adds one formatted line.
func (e *Evidence) Showf(format string, args ...any) { e.Show(fmt.Sprintf(format, args...)) }

// limit bounds each check: a claim that takes longer does not hold.
const limit = 2 * time.Minute

// Story returns the claims in the order they are told.
func Story() []Claim {
	return []Claim{
		{"service", "An application in the region reads clear values and writes, as it did before.", checkService},
		{"forms", "An analyst in Ireland and one in China run the same SQL, each on what they may open.", checkForms},
		{"follow", "What the service writes appears in the analyst's dataset within seconds, pseudonymised.", checkFollow},
		{"absence", "No clear value is anywhere in the files of the cluster outside: tables, indexes, WAL, logs.", checkAbsence},
		{"gone", "A person who is deleted at the source is gone from every dataset within seconds.", checkGone},
		{"floor", "A request that was approved is still refused: no approval lifts the floor.", checkFloor},
		{"bytes", "Every byte that reached the client is in a record at the monitor's mirror.", checkBytes},
		{"stop", "With the monitor killed no row is released, the service goes on, and all resumes on its return.", checkStop},
		{"valve", "From a gateway that the operator replaced, no more than a handshake passes the monitor's valve.", checkValve},
		{"altered", "A record that is altered afterwards is noticed.", checkAltered},
		{"retention", "A record's body is deleted when its time is over, and the log still verifies.", checkRetention},
		{"receipt", "Anyone can check a receipt offline, with the public keys and nothing else.", checkReceipt},
	}
}

// Outcome is how one claim fared.
type Outcome struct {
	ID  string
	Err error // nil: it holds
}

// Tell checks every claim and prints each with its evidence. A claim that fails does not
// stop the next ones. The outcomes are in the story's order.
func (w *World) Tell(ctx context.Context, out io.Writer) []Outcome {
	var outcomes []Outcome
	for _, claim := range Story() {
		if ctx.Err() != nil {
			outcomes = append(outcomes, Outcome{claim.ID, ctx.Err()})
			continue
		}
		began := time.Now()
		bounded, cancel := context.WithTimeout(ctx, limit)
		var evidence Evidence
		err := claim.Check(bounded, w, &evidence)
		cancel()
		mark := "✓"
		if err != nil {
			mark = "✗"
		}
		fmt.Fprintf(out, "\n%s %s [%s, %.1f s]\n", mark, claim.Text, claim.ID, time.Since(began).Seconds())
		for _, line := range evidence.lines {
			fmt.Fprintf(out, "    %s\n", wrap(line))
		}
		if err != nil {
			fmt.Fprintf(out, "    does not hold: %s\n", strings.ReplaceAll(err.Error(), "\n", "\n    "))
		}
		outcomes = append(outcomes, Outcome{claim.ID, err})
	}
	return outcomes
}

// widest is where a line of evidence is broken, in characters.
const widest = 112

// wrap breaks a long line at spaces. Tables are narrower, so they stay as they are.
func wrap(line string) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Split(line, " ") {
		n := len([]rune(word))
		switch {
		case i > 0 && column > 0 && column+1+n > widest:
			b.WriteString("\n      ")
			column = 2
		case i > 0:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}
