package enclave

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
)

// acknowledger publishes a definition in the log and has the monitor acknowledge it.
type acknowledger struct {
	scribe *scribe
	url    string
	token  string
	key    note.Verifier // the monitor's permit key
	client *http.Client
	logged map[string]*ticketed // by hash: one record a definition and start
}

func newAcknowledger(c *Config, s *scribe, key note.Verifier, token string, secure *tls.Config) *acknowledger {
	return &acknowledger{scribe: s, url: strings.TrimRight(c.Monitor.URL, "/") + "/acknowledge", token: token, key: key,
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: secure}}, logged: map[string]*ticketed{}}
}

// ask returns nil once the monitor has signed that it acknowledges exactly this definition.
func (a *acknowledger) ask(ctx context.Context, def *trefoil.Definition, hash string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	record := a.logged[hash]
	if record == nil {
		var err error
		record, err = a.scribe.append(ctx, &trefoil.Body{Kind: trefoil.KindCatalog,
			Catalog: &trefoil.CatalogBody{Definition: def, Event: "defined", Hash: hash}})
		if err != nil {
			return err
		}
		a.logged[hash] = record
	}
	request, err := record.request(ctx)
	if err != nil {
		return err
	}
	answer, err := a.post(ctx, request)
	if err != nil {
		return err
	}
	if answer.Refusal != nil {
		return fmt.Errorf("the monitor refuses: %s (%s)", answer.Refusal.Reason, answer.Refusal.Rule)
	}
	ack, err := trefoil.OpenAcknowledgement(answer.Acknowledgement, a.key)
	if err != nil {
		return err
	}
	if ack.Definition != hash || ack.Dataset != def.Name {
		return fmt.Errorf("the monitor acknowledged another definition")
	}
	return nil
}

func (a *acknowledger) post(ctx context.Context, r trefoil.PermitRequest) (*trefoil.AcknowledgeAnswer, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask the monitor: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the monitor: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("read the monitor's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusForbidden {
		return nil, fmt.Errorf("the monitor answers %s", resp.Status)
	}
	var out trefoil.AcknowledgeAnswer
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, fmt.Errorf("read the monitor's answer: %w", err)
	}
	return &out, nil
}

// readToken reads a token file: one line of text.
func readToken(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if len(token) < 16 {
		return "", fmt.Errorf("read token: %s has fewer than 16 characters", path)
	}
	return token, nil
}
