package release

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	trefoil "github.com/trefoil-eu/trefoil"
)

// maxAnswer bounds the monitor's answer in bytes.
const maxAnswer = 64 << 10

// HTTPPermitter asks the monitor over HTTP: POST URL/permit. It keeps connections open, and
// is safe for concurrent use. It checks nothing of the answer but its form.
type HTTPPermitter struct {
	url    string
	token  string
	client *http.Client
}

// NewHTTPPermitter returns a permitter for the monitor at url, with the bearer token the two
// share. Connections are reused, and one answer is waited for 8 s. A nil secure trusts the
// system's authorities.
func NewHTTPPermitter(url, token string, secure *tls.Config) *HTTPPermitter {
	client := &http.Client{
		Timeout: 8 * time.Second,
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			MaxIdleConns:        256,
			MaxIdleConnsPerHost: 256,
			IdleConnTimeout:     90 * time.Second,
			TLSHandshakeTimeout: 3 * time.Second,
			TLSClientConfig:     secure,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &HTTPPermitter{url: strings.TrimSuffix(url, "/") + "/permit", token: token, client: client}
}

// Permit implements Permitter. 200 is a permit, 403 a refusal, anything else no answer.
func (h *HTTPPermitter) Permit(ctx context.Context, r trefoil.PermitRequest) (trefoil.PermitAnswer, error) {
	var answer trefoil.PermitAnswer
	body, err := json.Marshal(r)
	if err != nil {
		return answer, fmt.Errorf("ask for permit: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return answer, fmt.Errorf("ask for permit: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+h.token)
	resp, err := h.client.Do(req)
	if err != nil {
		return answer, fmt.Errorf("ask for permit: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return answer, fmt.Errorf("read permit: %w", err)
	case len(text) > maxAnswer:
		return answer, fmt.Errorf("read permit: answer is longer than %d bytes", maxAnswer)
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusForbidden:
		return answer, fmt.Errorf("ask for permit: monitor answered %d", resp.StatusCode)
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return trefoil.PermitAnswer{}, fmt.Errorf("read permit: not JSON")
	}
	if (resp.StatusCode == http.StatusOK) != (answer.Permit != "" && answer.Refusal == nil) ||
		(resp.StatusCode == http.StatusForbidden) != (answer.Refusal != nil) {
		return trefoil.PermitAnswer{}, fmt.Errorf("read permit: answer %d contradicts its body", resp.StatusCode)
	}
	return answer, nil
}
