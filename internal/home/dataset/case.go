package dataset

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/home/keyring"
	"github.com/trefoil-eu/trefoil/internal/home/transform"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
)

// Case is a dataset of a few subjects for a time: tables, columns, forms and choice of rows are
// those of a defined dataset, of which it holds these subjects alone (docs/design/case.md).
type Case struct {
	ID       string    // 16 hex digits, drawn for this case: its keys are made and destroyed under it
	Name     string    // of the dataset and its database
	Of       string    // the defined dataset
	Grant    string    // id of the grant it is for, "" for none
	Subjects []string  // keys of the person table, as the source prints them
	Until    time.Time // when it is dropped
	Who      []string  // trefoil.CasePseudonym of those who may open it
}

// CaseRow is the entry of a definition's rows that makes it a case: a keyed digest of its subjects.
const CaseRow = catalog.CaseRow

// caseSubjectsMost bounds the subjects of a case: more are a standing dataset.
const caseSubjectsMost = 10_000

// caseOf is a case as a builder knows it.
type caseOf struct {
	Case
	ds  *catalog.Dataset
	def *trefoil.Definition
}

var (
	caseName = regexp.MustCompile(`^case_[a-z0-9_]{1,50}$`)
	caseID   = regexp.MustCompile(`^[0-9a-f]{16}$`)
)

// SetCases says which cases there are; those of an earlier call are forgotten. One that does not
// fit is left out, and told of.
func (b *Builder) SetCases(cases []Case) error {
	known := map[string]*caseOf{}
	var errs []error
	for _, c := range cases {
		one, err := b.newCase(c)
		if err == nil && known[c.Name] != nil {
			err = errors.New("there are two of it")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("case %s: %w", c.Name, err))
			continue
		}
		known[c.Name] = one
	}
	b.cases.Store(&known)
	return errors.Join(errs...)
}

// CheckCase says why a case cannot be.
func (b *Builder) CheckCase(c Case) error {
	if _, err := b.newCase(c); err != nil {
		return fmt.Errorf("case %s: %w", c.Name, err)
	}
	if b.caseNamed(c.Name) != nil {
		return fmt.Errorf("case %s: there is one of this name", c.Name)
	}
	return nil
}

func (b *Builder) newCase(c Case) (*caseOf, error) {
	of := b.cfg.Datasets.Dataset(c.Of)
	switch {
	case !caseName.MatchString(c.Name):
		return nil, errors.New("its name is case_ and small letters, digits and underscores, 55 characters at most")
	case b.cfg.Datasets.Dataset(c.Name) != nil:
		return nil, errors.New("a defined dataset has its name")
	case !caseID.MatchString(c.ID):
		return nil, errors.New("its id is not 16 hex digits")
	case of == nil:
		return nil, fmt.Errorf("dataset %s is not defined", c.Of)
	case len(c.Subjects) == 0 || len(c.Subjects) > caseSubjectsMost:
		return nil, fmt.Errorf("it has %d subjects: 1 to %d make a case", len(c.Subjects), caseSubjectsMost)
	case c.Until.IsZero():
		return nil, errors.New("it has no end")
	}
	def, _, err := b.Define(c.Of)
	if err != nil {
		return nil, err
	}
	ds := *of
	ds.Name, ds.Cluster, ds.K = c.Name, "inside", 0
	own := trefoil.CaseDefinition(def, trefoil.Case{Name: c.Name, Subjects: b.SubjectsDigest(c.Subjects), Grant: c.Grant, Until: c.Until, Who: c.Who})
	return &caseOf{Case: c, ds: &ds, def: own}, nil
}

// SubjectsDigest binds a list of subjects: order and repetition do not matter, and nobody
// without the digest key can search for a list.
func (b *Builder) SubjectsDigest(subjects []string) string { return subjectsDigest(b.digest, subjects) }

// SubjectsDigest is Builder.SubjectsDigest with the key of a file.
func SubjectsDigest(keyFile string, subjects []string) (string, error) {
	key, err := transform.ReadKeyFile(keyFile)
	if err != nil {
		return "", err
	}
	return subjectsDigest(key, subjects), nil
}

func subjectsDigest(key []byte, subjects []string) string {
	sorted := slices.Clone(subjects)
	slices.Sort(sorted)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("trefoil/case/v1\x00"))
	for _, s := range slices.Compact(sorted) {
		fmt.Fprintf(mac, "%d:%s", len(s), s)
	}
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// purpose is that of the case's keys. A case shares pseudonyms with no other dataset: whoever
// named its subjects knows them, and their pseudonyms would tell who they are elsewhere.
func (c *caseOf) purpose() *catalog.Purpose {
	return &catalog.Purpose{Name: CaseKey(c.ID), Epoch: 1}
}

// CaseKey is the purpose under which the key ring has a case's key, of epoch 1.
func CaseKey(id string) string { return "case/" + id }

func (b *Builder) caseNamed(name string) *caseOf {
	if known := b.cases.Load(); known != nil {
		return (*known)[name]
	}
	return nil
}

// dataset finds a defined dataset or a case.
func (b *Builder) dataset(name string) *catalog.Dataset {
	if c := b.caseNamed(name); c != nil {
		return c.ds
	}
	return b.cfg.Datasets.Dataset(name)
}

// all are the defined datasets, in the order of their file, and the cases, in that of their names.
func (b *Builder) all() []*catalog.Dataset {
	var out []*catalog.Dataset
	for i := range b.cfg.Datasets.Datasets {
		out = append(out, &b.cfg.Datasets.Datasets[i])
	}
	if known := b.cases.Load(); known != nil {
		for _, name := range slices.Sorted(maps.Keys(*known)) {
			out = append(out, (*known)[name].ds)
		}
	}
	return out
}

// Cases lists the names of the cases.
func (b *Builder) Cases() []string {
	var out []string
	for _, d := range b.all()[len(b.cfg.Datasets.Datasets):] {
		out = append(out, d.Name)
	}
	return out
}

// Case gives a case by its name.
func (b *Builder) Case(name string) (Case, bool) {
	if c := b.caseNamed(name); c != nil {
		return c.Case, true
	}
	return Case{}, false
}

// EndCase drops a case and destroys its key. The record of the drop says how many subjects it
// was for. A case that was never built has nothing to drop: its key goes all the same.
func (b *Builder) EndCase(ctx context.Context, name string) (*Dropped, error) {
	c := b.caseNamed(name)
	if c == nil {
		return nil, fmt.Errorf("there is no case %s", name)
	}
	d, err := b.Drop(ctx, name)
	if errors.Is(err, ErrNotBuilt) {
		d, err = &Dropped{}, nil
	}
	if err != nil {
		return nil, err
	}
	if _, err := b.ring.Destroy(CaseKey(c.ID), 1); err != nil && !errors.Is(err, keyring.ErrUnknown) && !errors.Is(err, keyring.ErrOneRoot) {
		return d, fmt.Errorf("case %s is dropped, but its key is not destroyed: %w", name, err)
	}
	return d, nil
}
