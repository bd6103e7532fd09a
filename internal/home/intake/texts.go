package intake

// The texts of the files that init writes. Comments in them are for the engineer who reads
// them for the first time.

const enclaveText = `# The enclave: what runs where. trefoil check finds what is missing.
version: 1
name: {{.Name}}
site: here
region: [EEA, GB, CH]
# The legal entity whose data this is, and the country it is established in (GDPR art. 4(7)).
exporter: {name: {{quote .Exporter}}, country: {{quote .Country}}, role: controller}
sites:
  - {name: here, country: {{quote .Country}}}
databases:
  {{.Database}}:
    site: here
    dbname: {{quote .DBName}}
    dsn: {{quote .Service}} # where services' sessions go; their own role is put in
    reader: {{quote .Reader}} # builds datasets: SELECT and REPLICATION are enough
clusters: # Trefoil's own PostgreSQL, set up and started by it
  inside: {embedded: {directory: clusters/inside, port: 5441}}
  outside: {embedded: {directory: clusters/outside, port: 5442}}
control: {{quote .Control}} # a small database for grants and jobs
gateway:
  listen: 127.0.0.1:6432
  certificate: tls/gateway-server.crt
  key: tls/gateway-server.key
  client_certificate: tls/gateway.crt # what databases are shown
  client_key: tls/gateway.key
  spill_dir: spill
log:
  origin: {{.Name}}/log
  directory: log
  listen: 127.0.0.1:7471
  key: keys/log
  retention: {release: 8760h, session: 8760h, refusal: 8760h, summary: 2160h}
# The independent monitor: its operator runs trefoil monitor init and sends the two keys.
monitor:
  url: http://127.0.0.1:7480
  witness: ""
  permit: ""
  token: keys/monitor.token
keys:
  pseudonyms: keys/pseudonyms # never in a dataset cluster; without it pseudonyms are only numbers
  staff: keys/staff
  statements: keys/statements
  digests: keys/digests
entities: # employers of the people in people.yaml
  own: {name: {{quote .Exporter}}, country: {{quote .Country}}, role: controller}
networks:
  - {cidr: 127.0.0.0/8, country: {{quote .Country}}}
  - {cidr: "::1/128", country: {{quote .Country}}}
`

const peopleText = `# Who may log in, and from where. trefoil passwd ID makes a verifier.
# people:
#   - id: analyst
#     verifier: "SCRAM-SHA-256$…"
#     groups: [analysts]
#     employer: own
#     workplace: IE
#     purposes: [analytics]
#     attested: {by: HR register, at: 2026-01-31}
# services:
#   - {id: app, verifier: "SCRAM-SHA-256$…", databases: […], role: app, site: here, groups: [services], purposes: […]}
version: 1
`

const catalogHead = `# The inventory of personal data, as trefoil init guessed it. Nothing here counts until it is
# reviewed: a column with reviewed: false is withheld from every dataset.
# For each line ask: is the category right, does why convince? Then write reviewed: true, or run
#   trefoil check --accept SCHEMA.TABLE      (or SCHEMA.TABLE.COLUMN, or a dataset's name for what it holds)
# category: identifier contact location content behaviour device financial special
# trait: key birth time typed (written by users) neutral (about no person) residence
# subject: whose the rows are. column: holds the person's key; via: the reference that leads on; nobody: true.
`

const datasetsHead = `# What each purpose may see. A column that is not listed is not there.
# form: clear, generalised (by: year month day hour prefix:N net bucket:N lookup), pseudonymised, withheld.
`

const purposesHead = `# Why data is looked at. Proposed: have the basis confirmed by whoever answers for it.
`
