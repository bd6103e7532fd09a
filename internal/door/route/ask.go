package route

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/jackc/pgx/v5"
)

// mostStatus bounds Patroni's answer, in bytes: a member's status is about one kilobyte.
const mostStatus = 64 << 10

// Patroni asks a member's REST API. URL is its base, such as http://10.0.0.1:8008.
//
// Source: Patroni's REST API, health check endpoints: GET /primary is 200 only while the member
// runs as primary and holds the leader's lock; the body is the member's status either way.
type Patroni struct {
	URL    string
	Client *http.Client // nil: http.DefaultClient
}

// patroniStatus is what is read of a status: field names are Patroni's.
type patroniStatus struct {
	State    string `json:"state"`
	Role     string `json:"role"`
	Timeline int64  `json:"timeline"`
	XLog     struct {
		Location int64 `json:"location"`
		Replayed int64 `json:"replayed_location"`
	} `json:"xlog"`
}

// Ask implements Asker.
func (p Patroni) Ask(ctx context.Context) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/primary", nil)
	if err != nil {
		return Answer{}, fmt.Errorf("ask Patroni: %w", err)
	}
	client := p.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return Answer{}, fmt.Errorf("ask Patroni: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostStatus))
	if err != nil {
		return Answer{}, fmt.Errorf("ask Patroni: %w", err)
	}
	var s patroniStatus
	if err := json.Unmarshal(body, &s); err != nil {
		return Answer{}, fmt.Errorf("ask Patroni: status %d with an answer that is not a member's status", resp.StatusCode)
	}
	switch {
	case s.State != "running" && s.State != "streaming":
		return Answer{}, fmt.Errorf("ask Patroni: the member is not running")
	case resp.StatusCode == http.StatusOK:
		return Answer{Role: Primary, Timeline: s.Timeline, Position: s.XLog.Location}, nil
	case s.Role == "replica" || s.Role == "sync_standby" || s.Role == "quorum_standby":
		return Answer{Role: Replica, Position: s.XLog.Replayed}, nil
	}
	// It runs as primary without the lock, or as something that no session belongs to.
	return Answer{}, errors.New("ask Patroni: the member holds no leader's lock and is no replica")
}

// Server asks the server itself, by a login that needs no rights. The connection is kept
// between questions.
type Server struct {
	Config *pgx.ConnConfig
	conn   *pgx.Conn
}

// NewServer asks the server at host and port with the login of a DSN.
func NewServer(dsn, host string, port uint16) (*Server, error) {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("read DSN of the route's login: it does not parse")
	}
	c.Host, c.Port, c.Fallbacks = host, port, nil
	if c.TLSConfig != nil && c.TLSConfig.ServerName != "" {
		c.TLSConfig = c.TLSConfig.Clone()
		c.TLSConfig.ServerName = host
	}
	c.RuntimeParams["application_name"] = "trefoil route"
	return &Server{Config: c}, nil
}

// A primary's timeline is in the name of the segment it writes: pg_control_checkpoint shows
// the former one until the first checkpoint after a promotion.
const askServer = `SELECT pg_is_in_recovery(),
  CASE WHEN pg_is_in_recovery() THEN '' ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END,
  (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END - '0/0'::pg_lsn)::bigint`

// Ask implements Asker. It is called from one goroutine at a time.
func (s *Server) Ask(ctx context.Context) (Answer, error) {
	if s.conn == nil || s.conn.IsClosed() {
		conn, err := pgx.ConnectConfig(ctx, s.Config)
		if err != nil {
			return Answer{}, fmt.Errorf("ask server: %w", err)
		}
		s.conn = conn
	}
	var replica bool
	var segment string
	var a Answer
	if err := s.conn.QueryRow(ctx, askServer).Scan(&replica, &segment, &a.Position); err != nil {
		_ = s.conn.Close(ctx) // it is asked anew on a new connection
		s.conn = nil
		return Answer{}, fmt.Errorf("ask server: %w", err)
	}
	if replica {
		a.Role = Replica
		return a, nil
	}
	a.Role = Primary
	if _, err := fmt.Sscanf(segment, "%X", &a.Timeline); err != nil {
		return Answer{}, fmt.Errorf("ask server: timeline of segment %q: %w", segment, err)
	}
	return a, nil
}

// Close ends the connection that is kept.
func (s *Server) Close(ctx context.Context) {
	if s.conn != nil {
		_ = s.conn.Close(ctx)
		s.conn = nil
	}
}
