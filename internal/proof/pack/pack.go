// Package pack is the evidence that a monitor, or a site, hands to an outsider: a directory or
// zip of files that `trefoil verify` checks without anything else.
//
// The invariant it keeps: a pack verifies only if every file is the one that was packed, none
// is missing, none was added, and each says what the proofs beside it bear out. What cannot be
// proved offline is named. Reading one never leaves the pack, follows no link and takes a
// bounded amount of memory, whatever it claims.
//
// It implements docs/design/registers.md, "Packs", over C2SP signed notes and RFC 6962 proofs.
// It does not say whose keys a pack names: the reader compares them with published ones.
package pack

import (
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// Header is the first line of a pack's manifest.
const Header = "trefoil.eu/pack/v1"

// Kinds of pack.
const (
	KindEvidence = "evidence" // what a monitor saw in a period
	KindOrder    = "order"    // that nothing went to a country
	KindDraw     = "draw"     // an inspection sample, opened in the region
)

// ReasonPack is why a pack as such does not verify.
const ReasonPack trefoil.Reason = "pack"

func failed(format string, args ...any) *trefoil.VerifyError {
	return &trefoil.VerifyError{Reason: ReasonPack, Text: fmt.Sprintf(format, args...)}
}

// Files that every pack has. All others are in the list.
const (
	manifestFile = "manifest"
	listFile     = "files"
	keysFile     = "keys.json"
)

// Manifest is signed by the key that keys.json names as the signer.
type Manifest struct {
	At    time.Time `json:"at"`
	Kind  string    `json:"kind"`
	Name  string    `json:"name"`  // of the monitor, or the log's origin
	From  time.Time `json:"from"`  // of the period, year 1: from the beginning
	Until time.Time `json:"until"` //
	List  string    `json:"list"`  // hex SHA-256 of the list of files
	Files int64     `json:"files"` // in the list
}

// Keys are whose signatures stand in a pack: vkeys.
type Keys struct {
	Signer     string   `json:"signer"` // of the manifest
	MonitorLog string   `json:"monitor_log,omitempty"`
	Witnesses  []string `json:"witnesses"`
	Permit     string   `json:"permit,omitempty"`
	Logs       []LogKey `json:"logs"`
}

// LogKey is the key of one watched log.
type LogKey struct {
	Origin string `json:"origin"`
	Hash   string `json:"hash"` // names its files
	Key    string `json:"key"`
}

// All lists every key.
func (k *Keys) All() []string {
	all := append([]string{k.Signer}, k.Witnesses...)
	for _, v := range []string{k.MonitorLog, k.Permit} {
		if v != "" {
			all = append(all, v)
		}
	}
	for _, l := range k.Logs {
		all = append(all, l.Key)
	}
	return all
}

// Bounds of a pack. What is beyond them is refused before it is read.
const (
	maxFiles  = 200_000
	maxFile   = 8 << 30
	maxSmall  = 64 << 20 // of files that are read into memory
	maxLine   = 4 << 20  // of a record in records.jsonl
	maxListed = 64 << 20 // of the list
)

// pathForm is what a path in a pack looks like: no dot at a part's beginning, nothing that any
// system takes for more than a name.
var pathForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,80}(/[a-z0-9][a-z0-9._-]{0,80}){0,4}$`)

func goodPath(p string) bool { return pathForm.MatchString(p) && !strings.Contains(p, "..") }

// listed is one line of the list: hex SHA-256, size, path.
type listed struct {
	hash string
	size int64
	path string
}

func (l listed) String() string { return fmt.Sprintf("%s %d %s\n", l.hash, l.size, l.path) }

var hashForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// parseList reads the list in its one form: sorted by path, none twice.
func parseList(text string) ([]listed, error) {
	var all []listed
	last := ""
	for line := range strings.Lines(text) {
		parts := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if len(parts) != 3 || !strings.HasSuffix(line, "\n") || !hashForm.MatchString(parts[0]) || !goodPath(parts[2]) {
			return nil, errors.New("a line of the list is not a hash, a size and a path")
		}
		size, err := strconv.ParseInt(parts[1], 10, 63)
		if err != nil || size < 0 || size > maxFile || strconv.FormatInt(size, 10) != parts[1] {
			return nil, errors.New("a line of the list has no size")
		}
		if parts[2] <= last || parts[2] == manifestFile || parts[2] == listFile {
			return nil, errors.New("the list is not sorted, or names a file twice")
		}
		last = parts[2]
		if all = append(all, listed{parts[0], size, parts[2]}); len(all) > maxFiles {
			return nil, fmt.Errorf("the list has more than %d files", maxFiles)
		}
	}
	return all, nil
}

// hash64 is a hash in base64, as proofs are written here.
type hash64 [32]byte

// MarshalText writes standard base64.
func (h hash64) MarshalText() ([]byte, error) {
	return []byte(base64.StdEncoding.EncodeToString(h[:])), nil
}

// UnmarshalText reads it in its one spelling.
func (h *hash64) UnmarshalText(text []byte) error {
	raw, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil || len(raw) != len(h) {
		return errors.New("not the base64 of 32 bytes")
	}
	copy(h[:], raw)
	return nil
}

func to64(hashes [][32]byte) []hash64 {
	out := make([]hash64, len(hashes))
	for i, h := range hashes {
		out[i] = h
	}
	return out
}

func from64(hashes []hash64) [][32]byte {
	out := make([][32]byte, len(hashes))
	for i, h := range hashes {
		out[i] = h
	}
	return out
}
