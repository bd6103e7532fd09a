package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor/officers"
)

// Reach is how an officer's tool speaks to a monitor: by files of its directory, or over HTTP.
// One of Dir and URL is set.
type Reach struct {
	Dir   string
	URL   string
	Token string       // of the monitor's own readers; "": what anybody may see
	HTTP  *http.Client // nil: one with a timeout of 30 s
}

// Submit hands an order over and returns the monitor's answer.
func (r Reach) Submit(ctx context.Context, s Submission) (*OrderAnswer, error) {
	if r.URL == "" {
		return OrderFile(ctx, r.Dir, s)
	}
	enc, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("order: %w", err)
	}
	var a OrderAnswer
	status, err := r.call(ctx, http.MethodPost, "/orders", enc, &a)
	if err == nil && status != http.StatusOK && status != http.StatusAccepted && status != http.StatusForbidden {
		err = fmt.Errorf("order: the monitor answered %d", status)
	}
	return &a, err
}

// Ordered asks a running monitor what is in force.
func (r Reach) Ordered(ctx context.Context) (*Ordered, error) {
	if r.URL == "" {
		rules, err := LoadRules(r.Dir)
		if err != nil {
			return nil, err
		}
		if r.Token, err = rules.ReadBodiesToken(r.Dir); err != nil {
			return nil, err
		}
		r.URL = "http://" + rules.Listen
		if rules.Certificate != "" {
			r.URL = "https://" + rules.Listen
		}
	}
	var o Ordered
	status, err := r.call(ctx, http.MethodGet, "/orders", nil, &o)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("ask for orders: the monitor answered %d", status)
	}
	return &o, err
}

// Name returns the monitor's name: an order is for one monitor.
func (r Reach) Name(ctx context.Context) (string, error) {
	if r.URL == "" {
		rules, err := LoadRules(r.Dir)
		if err != nil {
			return "", err
		}
		return rules.Name, nil
	}
	o, err := r.Ordered(ctx)
	if err != nil {
		return "", err
	}
	return o.Monitor, nil
}

// InForce returns the hash of the rules in force.
func (r Reach) InForce(ctx context.Context) (string, error) {
	if r.URL == "" {
		raw, err := os.ReadFile(filepath.Join(r.Dir, RulesFile))
		if err != nil {
			return "", fmt.Errorf("read rules: %w", err)
		}
		return hashOf(raw), nil
	}
	o, err := r.Ordered(ctx)
	if err != nil {
		return "", err
	}
	return o.Rules, nil
}

// Proposed returns an order that waits for another signature.
func (r Reach) Proposed(ctx context.Context, id string) (Submission, error) {
	var waiting []Submission
	if r.URL == "" {
		kept, err := readProposals(filepath.Join(r.Dir, "state", "orders", "proposed"))
		if err != nil {
			return Submission{}, err
		}
		for _, p := range kept {
			waiting = append(waiting, p.sub)
		}
	} else {
		o, err := r.Ordered(ctx)
		if err != nil {
			return Submission{}, err
		}
		waiting = o.Proposals
	}
	for _, s := range waiting {
		if o, err := officers.Read(s.Order); err == nil && o.ID == id {
			return s, nil
		}
	}
	return Submission{}, errors.New("no such order waits for a signature (over --url, --token FILE is needed to see them)")
}

func (r Reach) call(ctx context.Context, method, path string, body []byte, into any) (int, error) {
	hc := r.HTTP
	if hc == nil {
		hc = &http.Client{Timeout: 30 * time.Second}
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(r.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("ask monitor: %w", err)
	}
	if r.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.Token)
	}
	resp, err := hc.Do(req)
	if err != nil {
		return 0, fmt.Errorf("ask monitor: %w", err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(into); err != nil {
		return resp.StatusCode, fmt.Errorf("ask monitor: it answered %d, not JSON", resp.StatusCode)
	}
	return resp.StatusCode, nil
}
