package monitor

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"golang.org/x/mod/sumdb/note"
)

// testLog is a log that a test can make honest or not: a plain list of leaves, with every
// tree computed by RFC 6962's own definition.
type testLog struct {
	t      testing.TB
	signer note.Signer
	vkey   string
	origin string
	server *httptest.Server
	token  string

	mu      sync.Mutex
	leaves  [][]byte
	records []trefoil.Record
	served  []byte // checkpoint to serve
	gone    map[uint64]int
}

func newTestLog(t testing.TB, origin string) *testLog {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	l := &testLog{t: t, signer: s, vkey: vkey, origin: origin, token: "bodies-of-the-log", gone: map[uint64]int{}}
	l.server = httptest.NewServer(http.HandlerFunc(l.serve))
	t.Cleanup(l.server.Close)
	return l
}

// fork is another log with the same key and the same first n leaves: the operator's second view.
func (l *testLog) fork(n int) *testLog {
	f := &testLog{t: l.t, signer: l.signer, vkey: l.vkey, origin: l.origin, token: l.token, gone: map[uint64]int{}}
	f.leaves = append(f.leaves, l.leaves[:n]...)
	f.records = append(f.records, l.records[:n]...)
	return f
}

// add appends a record and returns its index.
func (l *testLog) add(b *trefoil.Body) uint64 {
	l.t.Helper()
	r, err := trefoil.NewRecord(b)
	if err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaves = append(l.leaves, r.Leaf())
	l.records = append(l.records, r)
	return uint64(len(l.leaves) - 1)
}

// pad appends n records that need no permit.
func (l *testLog) pad(n int) {
	for range n {
		l.add(siteBody(l.origin))
	}
}

func (l *testLog) size() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.leaves))
}

// root is MTH of the first n leaves.
func (l *testLog) root(n uint64) [32]byte { return mth(l.leaves[:n]) }

func mth(leaves [][]byte) [32]byte {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return trefoil.LeafHash(leaves[0])
	}
	k := split(len(leaves))
	a, b := mth(leaves[:k]), mth(leaves[k:])
	return sha256.Sum256(append(append([]byte{1}, a[:]...), b[:]...))
}

// split is the largest power of two below n.
func split(n int) int { return 1 << (bits.Len(uint(n-1)) - 1) }

func path(m int, leaves [][]byte) [][32]byte {
	if len(leaves) <= 1 {
		return nil
	}
	k := split(len(leaves))
	if m < k {
		return append(path(m, leaves[:k]), mth(leaves[k:]))
	}
	return append(path(m-k, leaves[k:]), mth(leaves[:k]))
}

func subproof(m int, leaves [][]byte, whole bool) [][32]byte {
	if m == len(leaves) {
		if whole {
			return nil
		}
		return [][32]byte{mth(leaves)}
	}
	k := split(len(leaves))
	if m <= k {
		return append(subproof(m, leaves[:k], whole), mth(leaves[k:]))
	}
	return append(subproof(m-k, leaves[k:], false), mth(leaves[:k]))
}

// checkpoint is the log-signed checkpoint of size n.
func (l *testLog) checkpoint(n uint64) []byte {
	l.t.Helper()
	root := l.root(n)
	text := fmt.Sprintf("%s\n%d\n%s\n", l.origin, n, base64.StdEncoding.EncodeToString(root[:]))
	cp, err := note.Sign(&note.Note{Text: text}, l.signer)
	if err != nil {
		l.t.Fatal(err)
	}
	return cp
}

// addRequest is an add-checkpoint body from old to n.
func (l *testLog) addRequest(old, n uint64) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "old %d\n", old)
	if old > 0 && old < n {
		for _, h := range subproof(int(old), l.leaves[:n], true) {
			b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
		}
	}
	return append([]byte(b.String()+"\n"), l.checkpoint(n)...)
}

// cosigned asks m for a cosignature on the whole log and publishes it.
func (l *testLog) cosigned(m *Monitor) []byte {
	l.t.Helper()
	n, old := l.size(), m.followers[m.state.logs[l.origin]].witness.size()
	line, _, err := m.AddCheckpoint(l.addRequest(old, n))
	if err != nil {
		l.t.Fatalf("AddCheckpoint(%d → %d): %v", old, n, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.served = append(l.checkpoint(n), line...)
	return l.served
}

// request is a permit request for record index under checkpoint cp of size n.
func (l *testLog) request(index uint64, cp []byte, evidence ...string) *trefoil.PermitRequest {
	l.t.Helper()
	c, err := trefoil.ParseCheckpoint(cp)
	if err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := trefoil.Proof{Index: index, Hashes: path(int(index), l.leaves[:c.Size]), Checkpoint: cp}
	return &trefoil.PermitRequest{Body: l.records[index].Body, Salt: l.records[index].Salt, Proof: p.String(), Evidence: evidence}
}

// serve answers like accesslog's handler.
func (l *testLog) serve(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := strings.TrimPrefix(r.URL.Path, "/")
	switch {
	case p == "checkpoint":
		w.Write(l.served)
	case strings.HasPrefix(p, "tile/entries/"):
		l.serveEntries(w, strings.TrimPrefix(p, "tile/entries/"))
	case strings.HasPrefix(p, "body/"):
		i, err := strconv.ParseUint(strings.TrimPrefix(p, "body/"), 10, 62)
		switch {
		case r.Header.Get("Authorization") != "Bearer "+l.token:
			w.WriteHeader(http.StatusUnauthorized)
		case err != nil || i >= uint64(len(l.records)):
			w.WriteHeader(http.StatusNotFound)
		case l.gone[i] != 0:
			w.WriteHeader(l.gone[i])
		default:
			writeJSON(w, http.StatusOK, accesslog.StoredBody{Body: l.records[i].Body, Salt: l.records[i].Salt})
		}
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (l *testLog) serveEntries(w http.ResponseWriter, name string) {
	name, _, _ = strings.Cut(name, ".p/")
	n, err := strconv.ParseUint(strings.NewReplacer("x", "", "/", "").Replace(name), 10, 62)
	if err != nil || n*256 >= uint64(len(l.leaves)) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	c, err := trefoil.ParseCheckpoint(l.served)
	if err != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	for _, leaf := range l.leaves[n*256 : min((n+1)*256, c.Size)] {
		w.Write(binary.BigEndian.AppendUint16(nil, uint16(len(leaf))))
		w.Write(leaf)
	}
}
