package feed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"

	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
)

// Code is why the service refused: a closed set.
type Code string

// The codes of refusals, with their HTTP status.
const (
	CodeMalformed    Code = "malformed"        // 400: not the JSON that the service reads
	CodeSurface      Code = "unknown-surface"  // 404
	CodeFeature      Code = "unknown-feature"  // 400: one that the model does not have
	CodeMissing      Code = "missing-feature"  // 400: one that the model has and the request does not name
	CodeValue        Code = "bad-value"        // 400: infinite, no number, no whole number for a category
	CodeItems        Code = "bad-items"        // 400: none, too many, an id twice, a text too long
	CodeSettings     Code = "unknown-setting"  // 400: a switch or topic that does not exist
	CodeSubject      Code = "bad-subject"      // 400: profiling without a subject, or a key too long
	CodeNotFound     Code = "unknown-decision" // 404
	CodeTooLarge     Code = "too-large"        // 413
	CodeUnauthorised Code = "unauthorised"     // 401
	CodeUnavailable  Code = "unavailable"      // 503: the decision could not be stored, so there is none
)

// Refusal is an answer that is no ranking. Its text repeats no value of the request.
type Refusal struct {
	Code    Code   `json:"error"`
	Message string `json:"message"`
}

// Error returns the text.
func (r *Refusal) Error() string { return r.Message }

func refuse(code Code, format string, args ...any) error {
	return &Refusal{code, fmt.Sprintf(format, args...)}
}

func (c Code) status() int {
	switch c {
	case CodeSurface, CodeNotFound:
		return http.StatusNotFound
	case CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case CodeUnauthorised:
		return http.StatusUnauthorized
	case CodeUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// Request asks for an order of items.
type Request struct {
	Surface   string         `json:"surface"`
	Subject   string         `json:"subject"`            // the platform's key of the person; "" for a visitor, who is not profiled
	Profiling bool           `json:"profiling"`          // false when left out
	Controls  Controls       `json:"controls,omitempty"` //
	Features  []string       `json:"features"`           // names, in the order of every item's values
	Items     []RequestItem  `json:"items"`
	Reasons   *ReasonsInline `json:"reasons,omitempty"` // nil: on demand
}

// Controls are what the person set.
type Controls struct {
	More  []string `json:"more,omitempty"`  // topics
	Less  []string `json:"less,omitempty"`  // topics
	Off   []string `json:"off,omitempty"`   // switches, such as region-trend
	Reset bool     `json:"reset,omitempty"` // what was learned from history counts as empty
}

// ReasonsInline asks for reasons in the same answer.
type ReasonsInline struct {
	Items int `json:"items"` // of the first so many
}

// RequestItem is one thing to rank. Topic, region and creator serve the audit of exposure; the
// model sees values alone.
type RequestItem struct {
	ID      string `json:"id"`
	Topic   string `json:"topic,omitempty"` // default: what the model's topic feature says
	Region  string `json:"region,omitempty"`
	Creator string `json:"creator,omitempty"` // class of the creator's size
	Values  Values `json:"values"`
}

// Values are numbers; null is a missing value, and becomes NaN.
type Values []float64

// UnmarshalJSON reads a list of numbers and nulls. JSON itself has no NaN and no infinity; a
// number that overflows is refused as one.
func (v *Values) UnmarshalJSON(src []byte) error {
	src = bytes.TrimSpace(src)
	if len(src) < 2 || src[0] != '[' {
		return errValues
	}
	src = src[1 : len(src)-1]
	out := make([]float64, 0, bytes.Count(src, []byte{','})+1)
	for len(bytes.TrimSpace(src)) > 0 || len(out) > 0 {
		field, rest, more := bytes.Cut(src, []byte{','})
		field = bytes.TrimSpace(field)
		x := math.NaN()
		if string(field) != "null" {
			var err error
			if len(field) == 0 || (field[0] != '-' && (field[0] < '0' || field[0] > '9')) {
				return errValues
			}
			if x, err = strconv.ParseFloat(string(field), 64); err != nil || math.IsInf(x, 0) {
				return errValues
			}
		}
		out = append(out, x)
		if !more {
			break
		}
		src = rest
	}
	*v = out
	return nil
}

// MarshalJSON writes NaN as null.
func (v Values) MarshalJSON() ([]byte, error) {
	b := []byte{'['}
	for i, x := range v {
		if i > 0 {
			b = append(b, ',')
		}
		switch {
		case math.IsNaN(x):
			b = append(b, "null"...)
		case math.IsInf(x, 0):
			return nil, errValues
		default:
			b = strconv.AppendFloat(b, x, 'g', -1, 64)
		}
	}
	return append(b, ']'), nil
}

var errValues = errors.New("an item's values must be a list of finite numbers and nulls")

// ReadRequest decodes one request and nothing after it. Unknown keys are refused.
func ReadRequest(r io.Reader) (*Request, error) {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	var req Request
	err := dec.Decode(&req)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			return nil, refuse(CodeMalformed, "something follows the request's JSON")
		}
		return &req, nil
	}
	var large *http.MaxBytesError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &large):
		return nil, refuse(CodeTooLarge, "the request is larger than %d bytes", large.Limit)
	case errors.Is(err, errValues):
		return nil, refuse(CodeValue, "%s", errValues)
	case errors.As(err, &kind):
		return nil, refuse(CodeMalformed, "%s: the value has another type than the service reads", kind.Field)
	}
	// The decoder's own text may quote the input.
	return nil, refuse(CodeMalformed, "the request is not the JSON that the service reads (syntax, or an unknown key)")
}

// settings checks what the person set against what the surface offers.
func (r *Request) settings(b *bound) (features.Settings, error) {
	s := features.Settings{Profiling: r.Profiling, Reset: r.Controls.Reset, Off: slices.Clone(r.Controls.Off)}
	slices.Sort(s.Off)
	s.Off = slices.Compact(s.Off)
	if n := len(r.Controls.More) + len(r.Controls.Less); n > decision.MaxTopics || len(s.Off) > decision.MaxTopics {
		return s, refuse(CodeSettings, "more than %d topics or switches are set", decision.MaxTopics)
	}
	for want, topics := range map[features.Want][]string{features.More: r.Controls.More, features.Less: r.Controls.Less} {
		for _, t := range topics {
			if s.Topics == nil {
				s.Topics = map[string]features.Want{}
			}
			if was, twice := s.Topics[t]; twice && was != want {
				return s, refuse(CodeSettings, "a topic is set to more and to less")
			}
			s.Topics[t] = want
		}
	}
	if err := b.words.CheckSettings(s); err != nil {
		return s, refuse(CodeSettings, "%s", err)
	}
	return s, nil
}

// columns says where each of the model's features stands in the request.
func (r *Request) columns(b *bound) ([]int, error) {
	at := make(map[string]int, len(r.Features))
	for i, name := range r.Features {
		if b.model.Index(name) < 0 {
			return nil, refuse(CodeFeature, "feature %d of the request is none of the model's", i+1)
		}
		if _, twice := at[name]; twice {
			return nil, refuse(CodeFeature, "feature %s is named twice", name)
		}
		at[name] = i
	}
	out := make([]int, len(b.model.Features))
	for i, f := range b.model.Features {
		j, ok := at[f.Name]
		if !ok {
			return nil, refuse(CodeMissing, "feature %s is missing: name it, and give null where there is no value", f.Name)
		}
		out[i] = j
	}
	return out, nil
}

// flat checks the items and puts their values in the model's order, one row behind the other.
func (r *Request) flat(b *bound, most int) ([]float64, error) {
	if len(r.Items) == 0 || len(r.Items) > most {
		return nil, refuse(CodeItems, "a request ranks 1 to %d items", most)
	}
	columns, err := r.columns(b)
	if err != nil {
		return nil, err
	}
	flat := make([]float64, 0, len(r.Items)*len(columns))
	seen := make(map[string]bool, len(r.Items))
	for i := range r.Items {
		it := &r.Items[i]
		switch {
		case it.ID == "" || seen[it.ID]:
			return nil, refuse(CodeItems, "item %d has no id, or another's", i+1)
		case max(len(it.ID), len(it.Topic), len(it.Region), len(it.Creator)) > decision.MaxText:
			return nil, refuse(CodeItems, "item %d has a text longer than %d bytes", i+1, decision.MaxText)
		case len(it.Values) != len(columns):
			return nil, refuse(CodeValue, "item %d has %d values for %d features", i+1, len(it.Values), len(columns))
		}
		seen[it.ID] = true
		for _, c := range columns {
			flat = append(flat, it.Values[c])
		}
		if err := b.words.CheckRow(flat[len(flat)-len(columns):]); err != nil {
			return nil, refuse(CodeValue, "item %d: %s", i+1, err)
		}
	}
	return flat, nil
}
