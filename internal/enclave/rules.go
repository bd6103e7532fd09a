package enclave

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
	"github.com/trefoil-eu/trefoil/internal/rules/policy"
	"github.com/trefoil-eu/trefoil/internal/strict"
)

// Rules is everything an enclave decides by, read once and never changed: reloading makes
// another.
type Rules struct {
	Config      *Config
	Files       *catalog.Files
	Definitions map[string]*trefoil.Definition // by dataset
	Classes     map[string]law.Class           // by dataset
	People      *People
	Policy      *policy.Engine
	Region      law.Region
	Approvers   []grant.Approver // with all ids that people.yaml knows each under
	Instruments []law.Instrument
	StaffKey    []byte

	PolicyHash  string
	CatalogHash string // of all catalogs, datasets and purposes
}

// LoadRules reads every file that the configuration names. All findings come together, each
// with file, line and column (strict.Errors).
func LoadRules(c *Config) (*Rules, error) {
	r := &Rules{Config: c, Definitions: map[string]*trefoil.Definition{}, Classes: map[string]law.Class{}}
	var found strict.Errors
	var errs []error
	note := func(err error) {
		var s strict.Errors
		if errors.As(err, &s) {
			found = append(found, s...)
		} else if err != nil {
			errs = append(errs, err)
		}
	}
	note(r.loadFiles())
	note(r.loadPeople())
	note(r.loadLaw())
	note(r.loadPolicy())
	if len(found) > 0 {
		errs = append(errs, found)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return r, r.define()
}

// loadFiles decodes and validates catalogs, datasets and purposes.
func (r *Rules) loadFiles() error {
	f := &catalog.Files{}
	r.Files = f
	sum := sha256.New()
	var found strict.Errors
	read := func(path string, parse func([]byte) error) error {
		src, err := readBounded(path)
		if err != nil {
			return fmt.Errorf("read configuration: %w", err)
		}
		sum.Write(src)
		sum.Write([]byte{0})
		err = parse(src)
		var s strict.Errors
		if errors.As(err, &s) {
			found = append(found, s...)
			return nil
		}
		return err
	}
	var errs []error
	for _, path := range r.Config.Catalogs {
		errs = append(errs, read(path, func(src []byte) error {
			c, pos, err := catalog.ParseCatalog(path, src)
			f.Catalogs, f.CatalogPositions = append(f.Catalogs, c), append(f.CatalogPositions, pos)
			return err
		}))
	}
	errs = append(errs, read(r.Config.Datasets, func(src []byte) (err error) {
		f.Datasets, f.DatasetsPositions, err = catalog.ParseDatasets(r.Config.Datasets, src)
		return err
	}), read(r.Config.Purposes, func(src []byte) (err error) {
		f.Purposes, f.PurposesPositions, err = catalog.ParsePurposes(r.Config.Purposes, src)
		return err
	}))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if len(found) == 0 {
		found = catalog.Validate(f)
	}
	r.CatalogHash = hex.EncodeToString(sum.Sum(nil))
	return found.Err()
}

func (r *Rules) loadPeople() error {
	src, err := readBounded(r.Config.People)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	file, err := identity.Decode(r.Config.People, src)
	if err != nil {
		return err
	}
	if r.StaffKey, err = readSecret(r.Config.Keys.Staff, "staff key"); err != nil {
		return err
	}
	tokens, err := r.Config.readTokens()
	if err != nil {
		return err
	}
	r.People, err = newPeople(file, r.StaffKey, tokens)
	return err
}

// loadLaw turns the configuration's entities, instruments and approvers into the words of
// law and grant.
func (r *Rules) loadLaw() error {
	var err error
	if r.Region, err = law.NewRegion(r.Config.Region); err != nil {
		return fmt.Errorf("read region: %w", err)
	}
	day := func(text string) time.Time { // checked by Load
		t, _ := time.Parse(time.DateOnly, text)
		return t
	}
	for _, in := range r.Config.Instruments {
		r.Instruments = append(r.Instruments, law.Instrument{ID: in.ID, Article: in.Article, Entity: r.Config.Entities[in.Entity].Name,
			Purposes: in.Purposes, From: day(in.Date), Until: day(in.Until), TIA: in.TIA, TIADate: day(in.TIADate)})
	}
	for _, a := range r.Config.Approvers {
		v, err := grant.NewVerifier(a.Key)
		if err != nil {
			return fmt.Errorf("read approver %s: not a verifier key", a.Name)
		}
		known := grant.Approver{Name: a.Name, Verifier: v, Purposes: a.Purposes, Persons: r.persons(a)}
		if known.From, known.Until, err = grant.ParseTerm(a.From, a.Until); err != nil {
			return fmt.Errorf("read approver %s: %w", a.Name, err)
		}
		r.Approvers = append(r.Approvers, known)
	}
	return nil
}

// Book is whose approvals count, and how many are needed.
func (r *Rules) Book() grant.Book {
	return grant.Book{Approvers: r.Approvers, Rules: r.Config.Approvals}
}

// persons are the ids that the person behind an approver has in people.yaml.
func (r *Rules) persons(a Approver) []string {
	if r.People == nil || a.Principal == "" { // what is wrong with the people is said already
		return nil
	}
	return r.People.Directory.SamePerson(a.Principal)
}

func (r *Rules) loadPolicy() error {
	engine, err := policy.Load(os.DirFS(r.Config.Policy))
	if err != nil {
		return fmt.Errorf("read policy: %w", err)
	}
	r.Policy, r.PolicyHash = engine, engine.Hash()
	return nil
}

// define makes each dataset's definition, with the regimes its subjects may fall under.
func (r *Rules) define() error {
	for i := range r.Files.Datasets.Datasets {
		ds := &r.Files.Datasets.Datasets[i]
		def, err := r.Define(ds)
		if err != nil {
			return err
		}
		r.Definitions[ds.Name] = def
		r.Classes[ds.Name], _ = catalog.ClassOf(def)
	}
	return nil
}

// Define returns the definition of one dataset as it is hashed, logged and acknowledged.
func (r *Rules) Define(ds *catalog.Dataset) (*trefoil.Definition, error) {
	regimes := law.RegimesOf(r.Config.Exporter.Country, ds.Rows.Residence)
	return catalog.Definition(ds, r.Files.Catalog(ds.Source), r.Files.Purposes, regimes...)
}

// Hashes are what a record says was in force.
func (r *Rules) Hashes(dataset, binary string) trefoil.Hashes {
	h := trefoil.Hashes{Binary: binary, Catalog: r.CatalogHash, Law: law.Hash(), Policy: r.PolicyHash}
	if def := r.Definitions[dataset]; def != nil {
		h.Dataset = trefoil.DefinitionHash(def)
	}
	return h
}

// BinaryHash is the SHA-256 of the running program, lower-case hex. It is self-reported: a
// changed program can say anything.
func BinaryHash() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find own program: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read own program: %w", err)
	}
	defer f.Close() //nolint:errcheck // read only
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read own program: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
