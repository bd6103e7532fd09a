package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// mirror reads the monitor's copy of the records, as the monitor's own reader does.
type mirror struct {
	url, hash, token string
	staff            []byte
	log              *trefoil.Client
}

func openMirror(t *testing.T) *mirror {
	t.Helper()
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(shared.dir, "monitor", "keys", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	m := &mirror{url: shared.env["MONITOR_URL"], token: strings.TrimSpace(string(read("bodies.token"))), staff: read("staff"),
		log: trefoil.NewClient(shared.env["LOG_URL"], nil)}
	var status struct {
		Logs []struct{ Origin, Hash string }
	}
	if code, err := m.get(bounded(t), "/status", &status); err != nil || code != http.StatusOK || len(status.Logs) != 1 {
		t.Fatalf("the monitor's logs: HTTP %d, %d logs, %v", code, len(status.Logs), err)
	}
	m.hash = status.Logs[0].Hash
	return m
}

func (m *mirror) get(ctx context.Context, path string, into any) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url+path, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+m.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp.StatusCode, err
	}
	return resp.StatusCode, json.Unmarshal(text, into)
}

// size of the log as it is published now.
func (m *mirror) size(t *testing.T) uint64 {
	t.Helper()
	raw, err := m.log.Checkpoint(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	c, err := trefoil.ParseCheckpoint(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c.Size
}

// follow gives every mirrored body from an index on to f, waiting for those that are yet to
// come, until f says that it has enough.
func (m *mirror) follow(t *testing.T, from uint64, f func(*trefoil.Body) (enough bool)) {
	t.Helper()
	ctx := bounded(t)
	deadline := time.Now().Add(20 * time.Second)
	for next := from; ; {
		var found struct{ Body []byte }
		code, err := m.get(ctx, fmt.Sprintf("/bodies/%s/%d", m.hash, next), &found)
		switch {
		case err != nil:
			t.Fatalf("mirrored record %d: %v", next, err)
		case code == http.StatusOK:
			b, err := trefoil.DecodeBody(found.Body)
			if err != nil {
				t.Fatalf("mirrored record %d: %v", next, err)
			}
			if f(b) {
				return
			}
			next++
			deadline = time.Now().Add(20 * time.Second)
		case time.Now().After(deadline):
			t.Fatalf("the mirror does not get record %d (HTTP %d)", next, code)
		default:
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// of says whether a record is about this principal.
func (m *mirror) of(b *trefoil.Body, principal string) bool {
	pseudonym := trefoil.StaffPseudonym(m.staff, b.At, principal)
	switch {
	case b.Release != nil:
		return b.Release.Access.Principal == pseudonym
	case b.Session != nil:
		return b.Session.Access.Principal == pseudonym
	case b.Refusal != nil:
		return b.Refusal.Access.Principal == pseudonym
	}
	return false
}
