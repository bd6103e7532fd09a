package enclave

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/release"
)

// absence is how long the monitor may be away before the regulator's contact is told.
const absence = 24 * time.Hour

// Regulator is who is told when the monitor has been away for a day: by a file, a webhook, or
// both. Contact is free text that the notice repeats.
type Regulator struct {
	Contact string `yaml:"contact"`
	File    string `yaml:"file,omitempty"`    // notices are appended, one line of JSON each
	Webhook string `yaml:"webhook,omitempty"` // notices are POSTed as JSON
}

// absent is what the regulator's contact is told.
type absent struct {
	At      time.Time `json:"at"`
	Enclave string    `json:"enclave"`
	Log     string    `json:"log"`
	Event   string    `json:"event"` // monitor-absent, monitor-returned
	Since   time.Time `json:"since"` // when the monitor last answered
	Contact string    `json:"contact"`
}

// vigil asks the monitor every second for its signed count of stops, so that a stop reaches
// sessions that ask for no permit just then, and takes note of its absence.
type vigil struct {
	url       string
	http      *http.Client
	stop      note.Verifier // nil: the count is not believed, and only absence is watched
	epoch     *release.Epoch
	regulator *Regulator
	about     absent // enclave, log, contact
	path      string // where the last answer's time is kept, over restarts
	now       func() time.Time

	seen time.Time // of the last answer
	kept time.Time // of those, the one in the file
	told time.Time // Since of the notice that was given; zero: none
}

// newVigil returns nil when there is no monitor to ask.
func newVigil(c *Config, secure *tls.Config, epoch *release.Epoch, now func() time.Time) (*vigil, error) {
	if c.Monitor.URL == "" {
		return nil, nil
	}
	v := &vigil{url: strings.TrimRight(c.Monitor.URL, "/") + "/stops", epoch: epoch, regulator: c.Regulator, now: now, path: filepath.Join(c.Log.Directory, "monitor-seen"),
		http:  &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: secure, IdleConnTimeout: time.Minute}},
		about: absent{Enclave: c.Name, Log: c.Log.Origin}}
	if c.Regulator != nil {
		v.about.Contact = c.Regulator.Contact
	}
	if c.Monitor.Stop != "" {
		var err error
		if v.stop, err = note.NewVerifier(c.Monitor.Stop); err != nil {
			return nil, fmt.Errorf("monitor.stop: %w", err)
		}
	}
	v.seen = now()
	if raw, err := os.ReadFile(v.path); err == nil {
		if at, err := time.Parse(time.RFC3339, strings.TrimSpace(string(raw))); err == nil && at.Before(v.seen) {
			v.seen, v.kept = at, at
		}
	}
	return v, nil
}

// round asks once.
func (v *vigil) round(ctx context.Context) error {
	if v == nil {
		return nil
	}
	err := v.ask(ctx)
	now := v.now()
	if err == nil {
		if !v.told.IsZero() {
			return v.tell(ctx, "monitor-returned", now)
		}
		return v.keep(now)
	}
	if v.regulator == nil || now.Sub(v.seen) < absence || v.told.Equal(v.seen) {
		return err
	}
	return errors.Join(err, v.tell(ctx, "monitor-absent", now))
}

func (v *vigil) ask(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.url, nil)
	if err != nil {
		return fmt.Errorf("ask for stops: %w", err)
	}
	resp, err := v.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask for stops: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask for stops: the monitor answered %d", resp.StatusCode)
	}
	if v.stop == nil {
		return nil
	}
	s, err := trefoil.OpenStops(string(text), v.stop)
	if err != nil {
		return fmt.Errorf("ask for stops: %w", err)
	}
	v.epoch.Observe(s.Epoch)
	return nil
}

// keep remembers that the monitor answered; once a minute on disk, so that a restart does not
// begin the day anew.
func (v *vigil) keep(at time.Time) error {
	v.seen = at
	if at.Sub(v.kept) < time.Minute {
		return nil
	}
	if err := os.WriteFile(v.path, []byte(at.UTC().Format(time.RFC3339)+"\n"), 0o600); err != nil {
		return fmt.Errorf("keep the monitor's last answer: %w", err)
	}
	v.kept = at
	return nil
}

// tell gives the notice; a failure is tried again in the next round.
func (v *vigil) tell(ctx context.Context, event string, now time.Time) error {
	n := v.about
	n.At, n.Event, n.Since = now.UTC(), event, v.seen.UTC()
	line, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("tell the regulator: %w", err)
	}
	if err := v.post(ctx, line); err != nil {
		return err
	}
	if v.regulator.File != "" {
		f, err := os.OpenFile(v.regulator.File, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return fmt.Errorf("tell the regulator: %w", err)
		}
		_, werr := f.Write(append(line, '\n'))
		if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("tell the regulator: %w", err)
		}
	}
	v.told = v.seen
	if event == "monitor-returned" {
		v.told = time.Time{}
		return v.keep(now)
	}
	return nil
}

func (v *vigil) post(ctx context.Context, line []byte) error {
	if v.regulator.Webhook == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.regulator.Webhook, bytes.NewReader(line))
	if err != nil {
		return errors.New("tell the regulator: the webhook is no address")
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{}).Do(req)
	if err != nil {
		return errors.New("tell the regulator: the webhook cannot be reached") // its address may hold a secret
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("tell the regulator: the webhook answered %d", resp.StatusCode)
	}
	return nil
}
