package catalog

import (
	"fmt"
	"time"
)

// Fresh bounds how old a dataset's rows may be when a session opens it. Both are durations
// as 10s, 5m or 26h; "" is no bound. They are no part of the definition's hash: they say how
// late the dataset may be, not what it holds.
type Fresh struct {
	Warn   string `yaml:"warn,omitempty"`   // sessions are told
	Refuse string `yaml:"refuse,omitempty"` // sessions are refused, and those that are open are ended
}

// Bounds are the two bounds; 0 where there is none. Call it on what Validate let pass.
func (f Fresh) Bounds() (warn, refuse time.Duration) {
	warn, _ = bound(f.Warn)
	refuse, _ = bound(f.Refuse)
	return warn, refuse
}

// leastBound is what following can hold at rest: freshness moves once a second.
const leastBound = 2 * time.Second

func bound(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("want a duration, as 10s, 5m or 26h")
	case d < leastBound:
		return 0, fmt.Errorf("want at least %s: at rest freshness moves once a second", leastBound)
	}
	return d, nil
}

// fresh checks the bounds of one dataset.
func (c *checker) fresh(ds *Dataset, at string) {
	warn, errWarn := bound(ds.Fresh.Warn)
	if errWarn != nil {
		c.fail(at+".warn", "dataset %s: fresh.warn: %v", ds.Name, errWarn)
	}
	refuse, errRefuse := bound(ds.Fresh.Refuse)
	if errRefuse != nil {
		c.fail(at+".refuse", "dataset %s: fresh.refuse: %v", ds.Name, errRefuse)
	}
	if errWarn == nil && errRefuse == nil && refuse > 0 && warn >= refuse {
		c.fail(at+".refuse", "dataset %s: fresh.refuse must be longer than fresh.warn", ds.Name)
	}
}
