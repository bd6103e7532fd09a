package trefoil

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// maxDocument bounds a signed document, in bytes.
const maxDocument = 16 << 20

// errDocument means that a text is not a signed document in its one form: reject it.
var errDocument = errors.New("not a signed document of this kind in its one form")

// SignDocument returns v as a C2SP signed note of two lines: header, which names the kind of
// document, and v in the deterministic JSON of records.
func SignDocument(header string, v any, s note.Signer) (string, error) {
	enc, err := appendValue(nil, reflect.ValueOf(v))
	if err != nil {
		return "", fmt.Errorf("sign document: %w", err)
	}
	signed, err := note.Sign(&note.Note{Text: header + "\n" + string(enc) + "\n"}, s)
	if err != nil {
		return "", fmt.Errorf("sign document: %w", err)
	}
	return string(signed), nil
}

// OpenDocument verifies a signed document of the kind that header names and reads it into v, a
// pointer. An unknown key, another order or spelling, a signature of another key are errors.
func OpenDocument(header, text string, v any, key note.Verifier) error {
	if key == nil {
		return errors.New("open document: no key to check it with")
	}
	if len(text) > maxDocument {
		return fmt.Errorf("open document: %d bytes, more than %d", len(text), maxDocument)
	}
	n, err := note.Open([]byte(text), note.VerifierList(key))
	if err != nil || !canonical(n) {
		return fmt.Errorf("open document: no valid signature of %s", key.Name())
	}
	line, ok := strings.CutPrefix(n.Text, header+"\n")
	enc := []byte(strings.TrimSuffix(line, "\n"))
	if !ok || len(enc)+1 != len(line) {
		return fmt.Errorf("open document: %w", errDocument)
	}
	if json.Unmarshal(enc, v) != nil {
		return fmt.Errorf("open document: %w", errDocument)
	}
	if again, err := appendValue(nil, reflect.ValueOf(v)); err != nil || !bytes.Equal(again, enc) {
		return fmt.Errorf("open document: %w", errDocument)
	}
	return nil
}

// DocumentHeader returns the first line of a text: what kind of signed document it says to be.
func DocumentHeader(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// IncidentHeader is the first line of an exported incident.
const IncidentHeader = "trefoil.eu/incident/v1"

// IncidentExport is a monitor's incident as a signed document: what identifies it, and the whole
// as the JSON text that `trefoil incident show --json` prints.
type IncidentExport struct {
	ID       string    `json:"id"`
	Incident string    `json:"incident"`
	Opened   time.Time `json:"opened"`
	Rule     string    `json:"rule"`
	State    string    `json:"state"`
}
