package flow

import (
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/testkit/faults"
)

// A peer that vanished closes no connection: who only waits for an error waits for ever.
func TestASourceThatSaysNothingIsGivenUp(t *testing.T) {
	conn, s, c := opened(t, nil)
	s.Close()
	r := faults.NewRelay(t, c.DSN)
	c.DSN, c.Silence = r.DSN(c.DSN), time.Second
	s, err := Open(within(t), c)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	time.Sleep(2500 * time.Millisecond) // idle for longer than that, and answered
	if _, _, err := s.Pending(); err != nil {
		t.Fatalf("an idle source was given up: %v", err)
	}
	r.Hold()
	if _, err := conn.Exec(within(t), "INSERT INTO b VALUES (77)"); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(within(t), 1<<62); err == nil || !strings.Contains(err.Error(), "said nothing") {
		t.Errorf("a silent source: %v", err)
	}
	r.Mend()
}
