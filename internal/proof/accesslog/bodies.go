package accesslog

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/trefoil-eu/trefoil"
)

// Bounds of one answer to GET bodies/FROM/COUNT.
const (
	maxBodies      = trefoil.TileWidth
	maxBodiesBytes = 4 << 20
)

// IndexedBody is one line of the answer to GET bodies/FROM/COUNT: a mirror that is far behind
// asks for many at once. Permits are not in it.
type IndexedBody struct {
	Index uint64 `json:"index"`
	StoredBody
}

// bodies answers with up to count bodies from an index on, a line each. Bodies that are gone are
// left out, and so is what would make the answer too long: who misses one asks for it alone.
func (h *handler) bodies(w http.ResponseWriter, r *http.Request, name string) {
	if !h.allowed(w, r) {
		return
	}
	a, b, _ := strings.Cut(name, "/")
	from, err := strconv.ParseUint(a, 10, 62)
	count, cerr := strconv.ParseUint(b, 10, 16)
	if err := errors.Join(err, cerr); err != nil || count == 0 || count > maxBodies || strconv.FormatUint(from, 10)+"/"+strconv.FormatUint(count, 10) != name {
		notFound(w)
		return
	}
	w.Header().Set("Content-Type", "application/jsonl")
	w.Header().Set("Cache-Control", "no-store")
	enc, size := json.NewEncoder(w), 0
	for i := from; i < min(from+count, h.l.Size()) && size < maxBodiesBytes; i++ {
		record, _, err := h.l.Body(i)
		if err != nil {
			if !errors.Is(err, ErrNoBody) {
				h.l.c.Logger.Error("access log: body cannot be read", "error", err)
			}
			continue
		}
		size += len(record.Body)
		if enc.Encode(IndexedBody{i, StoredBody{Body: record.Body, Salt: record.Salt}}) != nil {
			return // a client that went away is no error of ours
		}
	}
}
