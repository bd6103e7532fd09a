package monitor

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/trefoil-eu/trefoil"
	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor/incident"
)

// IncidentsDir is where a monitor keeps its incidents, inside its directory.
var IncidentsDir = filepath.Join("state", "incidents")

// incidentOf is a finding as what opens an incident: findings of one rule about one log are one
// incident, with the records as its evidence.
func incidentOf(x Finding) incident.Finding {
	f := incident.Finding{Rule: x.Rule, Origin: x.Origin, Reason: x.Text, At: x.At}
	if a := x.Alert; a != nil { // one incident for a principal and a rule
		f.Origin = a.Principal
		f.Baseline = fmt.Sprintf("%d %s is the most in %d days of their own history; threshold %d", a.Baseline, a.Unit, a.Days, a.Threshold)
		if a.Days == 0 && a.Baseline == 0 {
			f.Baseline = fmt.Sprintf("at most %d %s", a.Threshold, a.Unit)
		}
		for _, r := range a.Records[:len(a.Records)-1] {
			f.Evidence = append(f.Evidence, incident.Evidence{Log: r.Origin, Index: &r.Index})
		}
	}
	if x.Index != nil || x.Evidence != "" {
		f.Evidence = append(f.Evidence, incident.Evidence{Log: x.Origin, Index: x.Index, Text: x.Evidence})
	}
	return f
}

// Incidents is the monitor's store of incidents. What another part finds (a probe, an anomaly)
// is opened there.
func (m *Monitor) Incidents() *incident.Store { return m.incidents }

// ExportIncident returns an incident as a signed document under the statement key of the monitor
// in dir. It says what the incident was at that moment.
func ExportIncident(dir string, x *incident.Incident) (string, error) {
	skey, err := readSecret(filepath.Join(dir, "keys", UseStatement))
	if err != nil {
		return "", fmt.Errorf("export incident: %w", err)
	}
	key, err := note.NewSigner(skey)
	if err != nil {
		return "", fmt.Errorf("export incident: %w", err)
	}
	enc, err := json.Marshal(x)
	if err != nil {
		return "", fmt.Errorf("export incident: %w", err)
	}
	return trefoil.SignDocument(trefoil.IncidentHeader, trefoil.IncidentExport{ID: x.ID, State: string(x.State), Rule: x.Rule, Opened: x.Opened,
		Incident: string(enc)}, key)
}
