package gateway

import "github.com/trefoil-eu/trefoil/internal/door/wire"

// byType counts bytes by message type, headers included: FunctionCall, COPY, notices and
// notifications are seen although no statement accounts for them. A header counts when it is
// whole, so an interval's figures may be up to four bytes behind its totals.
type byType struct {
	in  [len(frontendTypes)]int64
	out [len(backendTypes)]int64
}

// The types of each direction, by the place of their figure.
const (
	frontendTypes = "BCDEFHPQSXcdfp"
	backendTypes  = "123ACDEGHIKNRSTVWZcdnstv"
)

// Places of the types: a look-up a message. The framer lets no other type pass.
var (
	frontendPlace = places(frontendTypes)
	backendPlace  = places(backendTypes)
)

func places(types string) (at [256]uint8) {
	for i := range len(types) {
		at[types[i]] = uint8(i)
	}
	return at
}

// size returns the bytes of a piece.
func size(p wire.Piece) int64 {
	if p.First {
		return int64(len(p.Body)) + wire.HeaderSize
	}
	return int64(len(p.Body))
}

// figures returns what is not zero, by type; nil for nothing.
func figures(types string, counts []int64) map[string]int64 {
	var m map[string]int64
	for i, n := range counts {
		if n == 0 {
			continue
		}
		if m == nil {
			m = map[string]int64{}
		}
		m[types[i:i+1]] = n
	}
	return m
}
