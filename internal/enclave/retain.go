package enclave

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/strict"
)

// sizeUnits are those in which a file gives bytes, longest first.
var sizeUnits = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}}

// leastRetain is the least log that a source must be let keep: one segment is 16 MiB.
const leastRetain = 64 << 20

// parseSize reads a number of bytes, as 512MiB or 32GiB.
func parseSize(text string) (int64, error) {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 32)
		if err != nil || n <= 0 || n > (1<<62)/u.bytes {
			break
		}
		return n * u.bytes, nil
	}
	return 0, fmt.Errorf("want a size, as 512MiB or 32GiB")
}

// validateRetain checks how much log sources may keep.
func (c *Config) validateRetain(bad func(string, string, ...any)) {
	for name, d := range c.Databases {
		if d.Retain == "" {
			continue
		}
		at := strict.Join(strict.Join("databases", name), "retain")
		n, err := parseSize(d.Retain)
		switch {
		case err != nil:
			bad(at, "%v", err)
		case n < leastRetain:
			bad(at, "want at least 64MiB: the source keeps its log in pieces of 16 MiB")
		}
	}
}

// Retain is how many bytes of their log the sources may keep for a dataset that is not being
// followed; those that say nothing are not in it. Call it on what Load let pass.
func (c *Config) Retain() map[string]int64 {
	out := map[string]int64{}
	for name, d := range c.Databases {
		if n, err := parseSize(d.Retain); err == nil {
			out[name] = n
		}
	}
	return out
}
