package monitor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
)

// bulkFrom is from how many unknown bodies of a bundle on they are asked for at once, and maxBulk
// how long an answer may be, in bytes.
const (
	bulkFrom = 4
	maxBulk  = 16 << 20
)

// bulk asks for the bodies of got, which begin at from, in one request. What does not come is
// asked for one by one: only that answer says whether a body is gone. A log that does not know the
// request is not asked again.
func (f *follower) bulk(ctx context.Context, from uint64, got []fetched) {
	if f.single {
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/bodies/%d/%d", strings.TrimRight(f.url, "/"), from, len(got)), nil)
	if err != nil {
		return
	}
	req.Header.Set("Authorization", "Bearer "+f.token)
	resp, err := f.http.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		f.single = resp.StatusCode == http.StatusNotFound
		return
	}
	dec := json.NewDecoder(io.LimitReader(resp.Body, maxBulk))
	for range got {
		var b accesslog.IndexedBody
		if dec.Decode(&b) != nil {
			return
		}
		if i := b.Index - from; b.Index >= from && i < uint64(len(got)) && !got[i].known && b.Body != nil {
			got[i].raw = b.StoredBody
		}
	}
}
