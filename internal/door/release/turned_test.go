package release

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/statement"
)

// A session that is turned away before it began is a refusal in the log, and nothing else.
func TestASessionThatIsTurnedAwayIsRecorded(t *testing.T) {
	for reason, want := range map[string]int{"parameter": 1, "": 0} {
		log := newFakeLog(t)
		client, far := net.Pipe()
		server, database := net.Pipe()
		defer database.Close()
		s, err := New(Config{Client: far, Server: server, Origin: testOrigin, Access: testAccess(), Recorder: log, Permitter: log, Trust: log.trust,
			Classifier: statement.NewClassifier(nil), Key: func(s string) string { return s }, SpillDir: t.TempDir(), Cancel: func(context.Context) error { return nil }})
		if err != nil {
			t.Fatal(err)
		}
		s.Stop(StopReason{Outcome: "error", SQLState: "55000", Message: "turned away", Refusal: reason})
		said := make(chan []byte, 1)
		go func() {
			_ = client.SetDeadline(time.Now().Add(20 * time.Second))
			text, _ := io.ReadAll(client) // however it ends
			said <- text
		}()
		go func() { _, _ = io.Copy(io.Discard, database) }()
		if err := s.Run(context.Background()); err == nil {
			t.Error("the session ran")
		}
		if text := <-said; !bytes.Contains(text, []byte("turned away")) {
			t.Errorf("the client was told %q", text)
		}
		found := log.of(trefoil.KindRefusal)
		if len(found) != want || len(log.of(trefoil.KindSession)) != 0 {
			t.Errorf("reason %q: %d refusals and %d session records, want %d and none", reason, len(found), len(log.of(trefoil.KindSession)), want)
		}
		if want > 0 && len(found) > 0 && (found[0].Refusal.Reason != reason || found[0].Refusal.Stage != "open") {
			t.Errorf("the refusal says %q at %q", found[0].Refusal.Reason, found[0].Refusal.Stage)
		}
	}
}
