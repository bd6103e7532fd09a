package main

import (
	"fmt"
	"time"

	"github.com/trefoil-eu/trefoil/internal/home/dataset"
)

// freshLine says how far behind a dataset is, and which of its bounds that exceeds.
func freshLine(f dataset.Freshness) string {
	line := f.Lag.Round(100*time.Millisecond).String() + " behind"
	if f.Bytes >= 0 {
		line = fmt.Sprintf("%s, %d bytes of log", line, f.Bytes)
	}
	switch {
	case f.TooOld():
		line += fmt.Sprintf(", over its bound of %s: sessions are refused", f.Refuse)
	case f.Old():
		line += fmt.Sprintf(", over its bound of %s: sessions are warned", f.Warn)
	}
	return line
}
