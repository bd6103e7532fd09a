package pack

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
)

// Report is what a pack proves, and what it does not.
type Report struct {
	Kind     string    `json:"kind"`
	Name     string    `json:"name"`
	At       time.Time `json:"at"`
	From     time.Time `json:"from"`
	Until    time.Time `json:"until"`
	Files    int       `json:"files"`
	Signer   string    `json:"signer"` // vkey
	Proven   []string  `json:"proven"`
	Caveats  []string  `json:"not_proven"`
	Manifest *Manifest `json:"-"`
}

// verifier is one verification.
type verifier struct {
	src    *source
	list   map[string]listed
	used   map[string]bool // files that a check has read
	keys   Keys
	logs   map[string]*trefoil.Trust // by hash
	report *Report
}

// Verify checks a pack. keys, if there are any, are the vkeys that the reader believes: the key
// that signed must be among them, and none of the pack's may contradict them. Without any the pack is checked under its own
// keys, and the report says so. Its errors are *trefoil.VerifyError where the pack is at fault.
func Verify(path string, keys []string) (*Report, error) {
	src, err := openSource(path)
	if err != nil {
		return nil, err
	}
	v := &verifier{src: src, list: map[string]listed{}, used: map[string]bool{keysFile: true}, logs: map[string]*trefoil.Trust{}, report: &Report{}}
	err = v.all(keys)
	if err := errors.Join(err, src.close()); err != nil {
		return nil, err
	}
	return v.report, nil
}

func (v *verifier) all(keys []string) error {
	m, err := v.manifest(keys)
	if err != nil {
		return err
	}
	if err := v.files(m); err != nil {
		return err
	}
	if err := v.trusts(); err != nil {
		return err
	}
	check, known := map[string]func(*Manifest) error{KindEvidence: v.evidence, KindOrder: v.order, KindDraw: v.draw}[m.Kind]
	if !known {
		return failed("there is no kind of pack %.40q", m.Kind)
	}
	if err := check(m); err != nil {
		return err
	}
	for name := range v.list {
		if !v.used[name] {
			return failed("%s belongs in no pack of this kind", name)
		}
	}
	return nil
}

// manifest reads keys and manifest, and checks who signed.
func (v *verifier) manifest(believed []string) (*Manifest, error) {
	raw, err := v.src.small(keysFile, 1<<20)
	if err != nil {
		return nil, err
	}
	if strictJSON(raw, &v.keys) != nil {
		return nil, failed("%s cannot be read", keysFile)
	}
	signer, err := note.NewVerifier(v.keys.Signer)
	if err != nil {
		return nil, failed("%s names no signer", keysFile)
	}
	if err := v.believe(believed); err != nil {
		return nil, err
	}
	text, err := v.src.small(manifestFile, 1<<20)
	if err != nil {
		return nil, err
	}
	var m Manifest
	if err := trefoil.OpenDocument(Header, string(text), &m, signer); err != nil {
		return nil, failed("the manifest is not signed by the key that the pack names: %v", err)
	}
	r := v.report
	r.Kind, r.Name, r.At, r.From, r.Until, r.Signer, r.Manifest = m.Kind, m.Name, m.At, m.From, m.Until, v.keys.Signer, &m
	v.prove("%s packed this at %s: %d files, none altered, missing or added", m.Name, m.At.Format(time.RFC3339), m.Files)
	if len(believed) == 0 {
		v.caveat("whose keys these are: compare them with published ones, or give them with --monitor-key and --log-key: %s", strings.Join(v.keys.All(), " "))
	}
	return &m, nil
}

// believe wants the signer among the keys that are believed, and no key in the pack that is
// another than the one that is believed under its name and algorithm: a monitor cosigns and permits
// under one name. The signer answers for the rest.
func (v *verifier) believe(believed []string) error {
	if len(believed) == 0 {
		return nil
	}
	if !slices.Contains(believed, v.keys.Signer) {
		return failed("the pack is signed with a key that is none of those given: %s", v.keys.Signer)
	}
	for _, k := range v.keys.All() {
		if slices.Contains(believed, k) {
			continue
		}
		name, algorithm := keyKind(k)
		for _, b := range believed {
			if other, alike := keyKind(b); other == name && alike == algorithm {
				return failed("the pack names another key of %s than the one given", name)
			}
		}
	}
	return nil
}

// keyKind is the name of a verifier key (name+hash+base64) and its algorithm byte; 0: it is none.
func keyKind(vkey string) (name string, algorithm byte) {
	name, rest, _ := strings.Cut(vkey, "+")
	_, data, _ := strings.Cut(rest, "+")
	if raw, err := base64.StdEncoding.DecodeString(data); err == nil && len(raw) > 0 {
		algorithm = raw[0]
	}
	return name, algorithm
}

// files checks the list and the bytes of every file in it.
func (v *verifier) files(m *Manifest) error {
	text, err := v.src.small(listFile, maxListed)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != m.List {
		return failed("the list of files is not the one that was signed")
	}
	list, err := parseList(string(text))
	if err != nil {
		return failed("%v", err)
	}
	for _, l := range list {
		v.list[l.path] = l
	}
	for name := range v.src.sizes {
		if _, in := v.list[name]; !in && name != manifestFile && name != listFile {
			return failed("%s was added", name)
		}
	}
	if int64(len(list)) != m.Files || v.list[keysFile].path == "" {
		return failed("the list of files is not whole")
	}
	for _, l := range list {
		if err := v.whole(l); err != nil {
			return err
		}
	}
	v.report.Files = len(list)
	return nil
}

// whole compares one file with its line in the list, reading no more than the line says.
func (v *verifier) whole(l listed) error {
	f, err := v.src.open(l.path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, l.size+1))
	if err != nil {
		return failed("%s cannot be read", l.path)
	}
	if n != l.size || hex.EncodeToString(h.Sum(nil)) != l.hash {
		return failed("%s was altered", l.path)
	}
	return nil
}

// trusts makes what to believe of each log out of the pack's keys.
func (v *verifier) trusts() error {
	for _, l := range v.keys.Logs {
		monitor := slices.Clone(v.keys.Witnesses)
		if v.keys.Permit != "" {
			monitor = append(monitor, v.keys.Permit)
		}
		t, err := trefoil.ParseTrust(l.Key, monitor)
		if err != nil || t.Log.Name() != l.Origin || v.logs[l.Hash] != nil || !goodPath(l.Hash) || strings.Contains(l.Hash, "/") {
			return failed("%s names keys that cannot be used", keysFile)
		}
		v.logs[l.Hash] = t
	}
	return nil
}

// json reads a listed file strictly.
func (v *verifier) json(name string, into any) error {
	raw, err := v.read(name)
	if err != nil {
		return err
	}
	if strictJSON(raw, into) != nil {
		return failed("%s cannot be read", name)
	}
	return nil
}

// read reads a listed file into memory.
func (v *verifier) read(name string) ([]byte, error) {
	if _, in := v.list[name]; !in {
		return nil, failed("%s is missing", name)
	}
	v.used[name] = true
	return v.src.small(name, maxSmall)
}

// under returns the listed files below dir, sorted.
func (v *verifier) under(dir string) []string {
	var out []string
	for name := range v.list {
		if strings.HasPrefix(name, dir+"/") {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (v *verifier) prove(format string, args ...any) {
	v.report.Proven = append(v.report.Proven, fmt.Sprintf(format, args...))
}

func (v *verifier) caveat(format string, args ...any) {
	v.report.Caveats = append(v.report.Caveats, fmt.Sprintf(format, args...))
}

// strictJSON refuses unknown keys and what follows the value.
func strictJSON(raw []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows")
	}
	return nil
}
