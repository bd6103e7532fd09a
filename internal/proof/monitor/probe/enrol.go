package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// enrolmentHead is the first line of every enrolment: a signature under another text counts for
// nothing here, and this one nowhere else.
const enrolmentHead = "trefoil enrolment v1"

// maxEnrolment bounds an enrolment's text in bytes.
const maxEnrolment = 16 << 20

// Enrolment is what an officer signed: what each server should report. What was not enrolled is a
// difference, but for what Trefoil itself makes of published definitions.
type Enrolment struct {
	Number  uint64     `json:"number"` // rises by one with each
	At      time.Time  `json:"at"`
	By      string     `json:"by"` // the officer's key name; set when it is opened
	Targets []Enrolled `json:"targets"`
}

// Enrolled is what one server should report.
type Enrolled struct {
	Name    string  `json:"name"`
	Entries []Entry `json:"entries"`
}

// Entry is one fact, of the whole server or of one database. In the names of sessions a field may
// be *, or its address a network; user=@principals is whoever may do nothing but open datasets.
type Entry struct {
	Topic    string `json:"topic"`
	Database string `json:"database,omitempty"`
	Name     string `json:"name"`
	Value    string `json:"value"`
}

func (e *Enrolment) target(name string) *Enrolled {
	if i := slices.IndexFunc(e.Targets, func(t Enrolled) bool { return t.Name == name }); i >= 0 {
		return &e.Targets[i]
	}
	return &Enrolled{Name: name}
}

// Draft makes an enrolment of what servers report now, to be read, and corrected, before it is
// signed. What Trefoil makes of published definitions is left out.
func Draft(s *Settings, states map[string]*State, old *Enrolment, now time.Time) *Enrolment {
	e := &Enrolment{Number: 1, At: now.UTC().Truncate(time.Second)}
	if old != nil {
		e.Number = old.Number + 1
	}
	for i := range s.Targets {
		t := &s.Targets[i]
		state := states[t.Name]
		if state == nil {
			continue
		}
		in := Enrolled{Name: t.Name}
		for _, x := range state.entries(t) {
			if x.Topic == "session" {
				x.Value = ""
			}
			in.Entries = append(in.Entries, x)
		}
		if old != nil { // sessions come and go: what was enrolled stays until it is taken out
			for _, x := range old.target(t.Name).Entries {
				if transient[x.Topic] && !slices.Contains(in.Entries, x) {
					in.Entries = append(in.Entries, x)
				}
			}
		}
		e.Targets = append(e.Targets, in)
	}
	return e
}

// Sign makes the text that goes into EnrolmentFile.
func Sign(e *Enrolment, signer note.Signer) (string, error) {
	out := *e
	out.By = ""
	body, err := json.MarshalIndent(&out, "", " ")
	if err != nil {
		return "", fmt.Errorf("sign enrolment: %w", err)
	}
	text, err := note.Sign(&note.Note{Text: enrolmentHead + "\n" + string(body) + "\n"}, signer)
	if err != nil {
		return "", fmt.Errorf("sign enrolment: %w", err)
	}
	return string(text), nil
}

// OpenEnrolment verifies an enrolment by the keys of officers.
func OpenEnrolment(text []byte, officers []string) (*Enrolment, error) {
	if len(text) > maxEnrolment {
		return nil, errors.New("open enrolment: it is too large")
	}
	keys, err := verifiers(officers)
	if err != nil {
		return nil, fmt.Errorf("open enrolment: %w", err)
	}
	n, err := note.Open(text, note.VerifierList(keys...))
	if err != nil {
		return nil, errors.New("open enrolment: no officer signed it")
	}
	body, ok := strings.CutPrefix(n.Text, enrolmentHead+"\n")
	if !ok {
		return nil, errors.New("open enrolment: what was signed is no enrolment")
	}
	e, err := decodeEnrolment([]byte(body))
	if err != nil {
		return nil, err
	}
	e.By = n.Sigs[0].Name
	return e, nil
}

func decodeEnrolment(body []byte) (*Enrolment, error) {
	var e Enrolment
	dec := json.NewDecoder(strings.NewReader(string(body)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return nil, errors.New("open enrolment: its text is not an enrolment's")
	}
	if dec.More() || e.Number == 0 {
		return nil, errors.New("open enrolment: its text is not an enrolment's")
	}
	return &e, nil
}

// ReadDraft reads a draft that a person may have edited.
func ReadDraft(path string) (*Enrolment, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read draft: %w", err)
	}
	return decodeEnrolment(raw)
}

// LoadEnrolment reads the enrolment in force from the monitor's directory.
func LoadEnrolment(dir string, officers []string) (*Enrolment, error) {
	raw, err := os.ReadFile(filepath.Join(dir, EnrolmentFile))
	if err != nil {
		return nil, errors.New("no enrolment is there: trefoil monitor enrol makes one")
	}
	return OpenEnrolment(raw, officers)
}

func verifiers(keys []string) ([]note.Verifier, error) {
	var out []note.Verifier
	for _, k := range keys {
		v, err := note.NewVerifier(k)
		if err != nil {
			return nil, errors.New("an officer's key is no vkey")
		}
		out = append(out, v)
	}
	return out, nil
}

// AddPeer enrols sessions of a target, given as "TARGET: user=… address=…".
func (e *Enrolment) AddPeer(given string) error {
	target, text, ok := strings.Cut(given, ":")
	i := slices.IndexFunc(e.Targets, func(t Enrolled) bool { return t.Name == strings.TrimSpace(target) })
	if !ok || i < 0 {
		return errors.New("it does not begin with the name of a target and a colon")
	}
	name, err := Session(text)
	if err != nil {
		return err
	}
	e.Targets[i].Entries = append(e.Targets[i].Entries, Entry{Topic: "session", Name: name})
	return nil
}
