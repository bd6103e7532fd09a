package register

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/trefoil-eu/trefoil"
)

// MaxDraw bounds an inspection sample.
const MaxDraw = 100_000

// Draw gives the indexes that a seed draws from a log's head, one after the other, none twice.
// Nobody who fixed the head before they knew the seed could choose them, and everybody who
// knows both computes them again.
//
// The k-th try is the first 8 bytes of SHA-256("trefoil.eu/draw/v1\n" ‖ seed ‖ "\n" ‖ origin,
// size and root as lines of the checkpoint ‖ k as 8 bytes), taken modulo the size; tries at or
// above the largest multiple of the size are passed over, and so are indexes drawn before.
type Draw struct {
	head  []byte
	size  uint64
	try   uint64
	drawn map[uint64]bool
}

// errSeed means that a seed draws nothing: choose one of 8 to 200 printable characters.
var errSeed = errors.New("a seed has 8 to 200 printable ASCII characters")

// NewDraw begins a draw.
func NewDraw(seed string, head *trefoil.Checkpoint) (*Draw, error) {
	if len(seed) < 8 || len(seed) > 200 {
		return nil, errSeed
	}
	for _, c := range seed {
		if c < ' ' || c > '~' {
			return nil, errSeed
		}
	}
	text := fmt.Sprintf("trefoil.eu/draw/v1\n%s\n%s\n%d\n%x\n", seed, head.Origin, head.Size, head.Root)
	return &Draw{head: []byte(text), size: head.Size, drawn: map[uint64]bool{}}, nil
}

// Next draws another index; false: all are drawn.
func (d *Draw) Next() (uint64, bool) {
	if uint64(len(d.drawn)) >= d.size {
		return 0, false
	}
	limit := ^uint64(0) - ^uint64(0)%d.size
	for {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(d.head[:len(d.head):len(d.head)], d.try))
		d.try++
		v := binary.BigEndian.Uint64(sum[:8])
		if v >= limit {
			continue
		}
		if i := v % d.size; !d.drawn[i] {
			d.drawn[i] = true
			return i, true
		}
	}
}
