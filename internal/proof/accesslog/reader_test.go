package accesslog_test

import (
	"errors"
	"testing"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
)

// TestReaderFollowsAWriter: `trefoil log` reads while the gateway writes, and new segments appear.
func TestReaderFollowsAWriter(t *testing.T) {
	f := newFixture(t, 1)
	l := f.open(t)
	witnessed(t, appendRecord(t, l, record(t, 0)))
	r, err := accesslog.OpenReader(f.config.Directory)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	witnessed(t, appendRecord(t, l, recordAt(t, 1, trefoil.KindRelease))) // a segment the reader has not seen
	if err := l.StorePermit(1, "permit"); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(2) {
		receipt, err := r.Receipt(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		p, err := trefoil.ParseProof(receipt.Proof)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.trust.VerifyProof(p, receipt.Record.Leaf()); err != nil {
			t.Fatal(err)
		}
		if (receipt.Permit == "permit") != (i == 1) {
			t.Fatalf("record %d: permit %q", i, receipt.Permit)
		}
	}
	if err := l.DeleteBody(0); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Body(0); !errors.Is(err, accesslog.ErrNoBody) {
		t.Fatalf("Body of a deleted record: %v", err)
	}
	if c, _, err := r.Checkpoint(t.Context()); err != nil || c.Size != 2 {
		t.Fatalf("Checkpoint: %+v, %v", c, err)
	}
	if _, err := accesslog.OpenReader(t.TempDir()); err == nil {
		t.Fatal("a directory without a log opens")
	}
}

// TestOpeningsStayAtTheSite: the opening is in the store, and nowhere else.
func TestOpeningsStayAtTheSite(t *testing.T) {
	f := newFixture(t, 1)
	l := f.open(t)
	opening := []byte("an opening that nobody outside may see")
	ticket, err := l.Append(t.Context(), record(t, 0), opening)
	if err != nil {
		t.Fatal(err)
	}
	witnessed(t, ticket)
	if len(holds(t, f.config.Directory+"/"+accesslog.PrivateDir, opening)) != 1 {
		t.Fatal("the opening is not in the store")
	}
	if files := holds(t, f.config.Directory+"/"+accesslog.PublicDir, opening); len(files) != 0 {
		t.Fatalf("the opening is in the public part: %v", files)
	}
	if got, err := l.Opening(0); err != nil || string(got) != string(opening) {
		t.Fatalf("Opening: %q, %v", got, err)
	}
	if err := l.DeleteBody(0); err != nil {
		t.Fatal(err)
	}
	if len(holds(t, f.config.Directory, opening)) != 0 {
		t.Fatal("the opening outlives its body")
	}
}
