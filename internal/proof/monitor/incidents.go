package monitor

import (
	"path/filepath"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor/incident"
)

// IncidentsDir is where a monitor keeps its incidents, inside its directory.
var IncidentsDir = filepath.Join("state", "incidents")

// incidentOf is a finding as what opens an incident: findings of one rule about one log are one
// incident, with the records as its evidence.
func incidentOf(x Finding) incident.Finding {
	f := incident.Finding{Rule: x.Rule, Origin: x.Origin, Reason: x.Text, At: x.At}
	if x.Index != nil || x.Evidence != "" {
		f.Evidence = []incident.Evidence{{Log: x.Origin, Index: x.Index, Text: x.Evidence}}
	}
	return f
}

// Incidents is the monitor's store of incidents. What another part finds (a probe, an anomaly)
// is opened there.
func (m *Monitor) Incidents() *incident.Store { return m.incidents }
