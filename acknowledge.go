package trefoil

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// AcknowledgementHeader is the first line of an acknowledgement.
const AcknowledgementHeader = "trefoil.eu/acknowledgement/v1"

// Acknowledgement is the monitor's signed statement that it knows a dataset's definition and
// that its own rules allow the dataset. Its signed form is a C2SP signed note: the header
// and the fields, a line each, signed with the permit key.
type Acknowledgement struct {
	Dataset    string    // name
	Definition string    // hex DefinitionHash
	Class      string    // the most revealing form it was judged to hold
	Origin     string    // of the log that holds the catalog record
	At         time.Time // UTC, seconds
}

// AcknowledgeAnswer is the answer to POST /acknowledge: 200 with Acknowledgement, or 403
// with Refusal. Widened lists what the definition shows beyond the last acknowledged one.
type AcknowledgeAnswer struct {
	Acknowledgement string      `json:"acknowledgement,omitempty"`
	Widened         []string    `json:"widened,omitempty"`
	Refusal         *NoteReason `json:"refusal,omitempty"`
}

// SignAcknowledgement returns a as a signed note.
func SignAcknowledgement(a Acknowledgement, s note.Signer, outgoing ...note.Signer) (string, error) {
	fields := []string{AcknowledgementHeader, a.Dataset, a.Definition, a.Class, a.Origin, a.At.UTC().Format(time.RFC3339)}
	for _, f := range fields {
		if f == "" || strings.ContainsAny(f, "\n\r") {
			return "", fmt.Errorf("sign acknowledgement: a field is empty or has a line break")
		}
	}
	out, err := note.Sign(&note.Note{Text: strings.Join(fields, "\n") + "\n"}, append([]note.Signer{s}, outgoing...)...)
	if err != nil {
		return "", fmt.Errorf("sign acknowledgement: %w", err)
	}
	return string(out), nil
}

// OpenAcknowledgement verifies an acknowledgement with the monitor's permit key.
func OpenAcknowledgement(text string, v note.Verifier) (Acknowledgement, error) {
	n, err := note.Open([]byte(text), note.VerifierList(v))
	if err != nil {
		return Acknowledgement{}, fmt.Errorf("open acknowledgement: %w", err)
	}
	f := strings.Split(strings.TrimSuffix(n.Text, "\n"), "\n")
	if len(f) != 6 || f[0] != AcknowledgementHeader {
		return Acknowledgement{}, fmt.Errorf("open acknowledgement: not an acknowledgement")
	}
	at, err := time.Parse(time.RFC3339, f[5])
	if err != nil {
		return Acknowledgement{}, fmt.Errorf("open acknowledgement: time: %w", err)
	}
	return Acknowledgement{Dataset: f[1], Definition: f[2], Class: f[3], Origin: f[4], At: at.UTC()}, nil
}
