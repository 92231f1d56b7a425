// Package flexphone holds the floor plan of the house as a test.
package flexphone

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "flexphone/"

// equipment is where everything stands that tries the house. No room imports it
// outside tests: what is sold works without what it was tried with.
const equipment = "testbed"

// A room says what a package may know of the rest of the house.
type room struct {
	imports string // the packages of ours that it may import; "*": every one
	why     string // the reason for that
}

// floorPlan is the house: every package stands here, and imports of ours nothing
// but what stands beside it. Imports run downwards only.
var floorPlan = map[string]room{
	"boards": {"", "boards are data: whoever reads them decides what they mean"},

	"hal":         {"", "the contract with the hardware is the one thing that all drivers and users share"},
	"hal/display": {"hal", "a driver knows its contract alone"},
	"hal/sim":     {"hal hal/display", "a driver knows its contract alone; a simulated display cuts its lines as the real one does"},
	"hal/gpio":    {"hal hal/cdev", "a driver knows its contract alone, and the kernel's character device"},
	"hal/evdev":   {"hal hal/cdev", "a driver knows its contract alone, and the kernel's character device"},
	"hal/cdev":    {"", "reading a character device under a context is the kernel's business, not the phone's"},
	"hal/haltest": {"hal", "a conformance suite knows the contract, and none of the drivers that it tests"},

	"netlink":           {"internal/durable internal/mac", "an address is what it is, whoever wants to know"},
	"netlink/portmap":   {"", "a router is asked in the same way, whoever wants to be let in"},
	"netlink/linklocal": {"internal/mac netlink netlink/prefer netlink/internal/arp netlink/internal/link", "an address of our own stands behind a Source that asks for one, and claims it in ARP"},
	"netlink/prefer":    {"netlink netlink/internal/moment netlink/internal/resolvconf", "who chooses among Sources knows what they tell, and no interface"},
	"netlink/voice":     {"netlink netlink/internal/link netlink/internal/lldp netlink/internal/moment", "a VLAN is made below a Source, whatever that does on it; the switch is heard on the link"},

	"audio":           {"audio/emodel audio/limit audio/noise audio/rtp audio/jitter", "the engine joins a device, codecs and packets without knowing who calls whom"},
	"audio/audiotest": {"audio/resample", "measures sound, wherever it comes from"},
	"audio/conceal":   {"", "arithmetic on samples"},
	"audio/echo":      {"audio audio/resample internal/ccall", "works on ticks at the engine's hook, whatever is said in them"},
	"audio/g711":      {"audio audio/conceal audio/resample", "a codec knows the engine's words and rates"},
	"audio/g722":      {"audio audio/conceal audio/resample", "a codec knows the engine's words and rates"},
	"audio/jitter":    {"audio/noise", "arithmetic on packets' times; what is heard between them is noise"},
	"audio/l16":       {"audio audio/conceal audio/resample", "a codec knows the engine's words and rates"},
	"audio/emodel":    {"", "how good a call is follows from a few figures, whoever counts them"},
	"audio/limit":     {"", "arithmetic on samples"},
	"audio/noise":     {"audio/resample", "arithmetic on samples, and their rates"},
	"audio/opus":      {"audio audio/resample", "a codec knows the engine's words and rates"},
	"audio/pathtest":  {"audio audio/rtp", "a conformance suite knows the contract, and none of the paths that it tests"},
	"audio/portaudio": {"audio audio/resample", "a device knows the contract of devices, and makes up for a card whose rate nobody else has"},
	"audio/resample":  {"", "arithmetic on samples"},
	"audio/rtp":       {"", "packets, whatever sound is in them"},
	"audio/seek":      {"", "which way is best follows from who has answered, whatever the question was"},
	"audio/srtp":      {"audio audio/seek internal/pass internal/secret", "a path knows the contract of paths, and keeps its keys out of sight"},
	"audio/udp":       {"audio", "a path knows the contract of paths"},
	"audio/wav":       {"audio", "a device knows the contract of devices"},

	"registry-client/wire":   {"internal/mac internal/pass", "both sides of the wire import it, so it knows neither"},
	"registry-client/link":   {"registry-client/wire", "bytes in order are the same for both ends of a link, whoever carries its messages"},
	"registry-client":        {"internal/durable internal/ownkey internal/pass registry-client/link registry-client/wire netlink", "it carries leases to the wire, and needs both words"},
	"storing-server":         {"internal/durable internal/ownkey internal/pass internal/sipcheck internal/usage registry-client/link registry-client/wire", "the server serves any phone that speaks the wire, and knows none"},
	"storing-server/engines": {"storing-server/internal/journal", "whoever compares engines must know ours; a module of its own, so that nobody depends on the others"},

	"firmware/internal/config":   {"", "settings are text until somebody acts on them"},
	"firmware/internal/watchdog": {"internal/durable", "a watchdog asks whether somebody moves, not what for; why one crashed is kept durably"},
	"firmware/internal/poweron":  {"", "times since power-on are the kernel's"},
	"firmware/internal/reach":    {"", "the order of addresses is the same whatever is spoken there"},
	"firmware/internal/parts":    {"", "whoever runs parts does not know what they do"},
	"firmware/internal/finder":   {"registry-client/wire", "finding a server needs its usual port, and not what is spoken there"},
	"firmware/internal/events":   {"", "what is told outside is named here, whoever tells it"},
	"firmware/internal/control":  {"firmware/internal/events", "a socket that carries commands and events does not know what they do"},
	"firmware/internal/trace":    {"audio registry-client/wire", "whoever shows what goes over the wire must read all that is spoken there, and has no wire"},
	"internal/ccall":             {"", "how C is called has nothing to do with what it does"},
	"internal/durable":           {"", "a file that a power cut leaves whole is that, whatever is in it"},
	"internal/mac":               {"", "a phone's permanent number is the same on its interface, on the wire, in a row and on a keypad"},
	"internal/usage":             {"", "what a process takes is the kernel's figure, whoever measures it"},
	"internal/ownkey":            {"internal/durable", "a key and the certificate that it signs itself are the same for whoever has one; it is kept durably"},
	"internal/pass":              {"", "what a phone shows a relay is the same for both"},
	"internal/realtime":          {"", "threads are the kernel's and the runtime's, whatever is urgent in them"},
	"internal/secret":            {"", "what must not be read in a log is that, whatever it opens"},
	"internal/sipcheck":          {"", "what a SIP message has to look like is the same for a phone and a registrar"},
	"internal/sipcheck/torture":  {"", "the messages of RFC 4475 are the same for whoever reads them; tests alone do"},

	"firmware/internal/sip":       {"internal/sipcheck", "signalling knows addresses and calls, not phones; what is said of media are bytes to it"},
	"firmware/internal/media":     {"firmware/internal/sip firmware/internal/reach internal/pass internal/secret", "offer and answer are what signalling asks for, from the address that suits the peer; who makes sound of them is not known here"},
	"firmware/internal/browser":   {"audio audio/udp firmware/internal/sip registry-client/wire", "a browser's session is a path for sound and a call in the words of signalling; who rings is not known here"},
	"firmware/internal/phone":     {"hal internal/mac firmware/internal/events firmware/internal/sip", "call control knows keys and calls; sound and the storing server stand behind its own interfaces"},
	"firmware/internal/directory": {"internal/durable internal/mac firmware/internal/phone firmware/internal/reach firmware/internal/sip registry-client registry-client/wire", "whoever says who a number is reads rows, and answers call control and signalling in their own words"},

	"firmware":              {"*", "the phone is made of all the others; nobody knows it"},
	"firmware/image/recipe": {"boards", "an image is made of what its board says"},
	"testbed":               {"audio/audiotest audio/resample audio/wav internal/mac testbed/nat testbed/pace testbed/serial testbed/webdriver testbed/wire", "the testbed sees a phone from outside: its binary, its control socket, its sound"},
	"testbed/access":        {"testbed/webdriver", "what keeps people from a page is the same for every page"},
	"testbed/agent":         {"internal/durable testbed/pace testbed/serial", "the agent in a guest is the testbed's arm, and knows no phone"},
	"testbed/nat":           {"", "an address is translated in the same way, whoever has it"},
	"testbed/natsnode":      {"", "a node of NATS is one, wherever it runs"},
	"testbed/pace":          {"", "how a machine keeps pace is the machine's business, whoever has to keep it"},
	"testbed/serial":        {"testbed/pace", "both ends of the line import it, so it knows neither"},
	"testbed/story":         {"testbed testbed/ears", "the story is told with what the testbed offers"},
	"testbed/lab":           {"", "a place to try DHCP clients in does not know them"},
	"testbed/labtest":       {"testbed/lab", "a test is run again in the lab, whatever is tried there"},
	"testbed/faults":        {"testbed/lab", "a faulty server knows where it stands, and not whom it tries"},
	"testbed/registrars":    {"internal/usage", "servers that keep addresses are asked over the wire, and ours is known by its command"},
	"testbed/webdriver":     {"", "a browser is driven in the same way, whatever it is shown"},
	"testbed/wire":          {"", "a long way is as long, whoever goes it"},
	"testbed/ears":          {"testbed/wire", "sound that comes is heard in the same way, whoever measures calls"},
	"testbed/soak":          {"internal/usage testbed", "a life in haste is lived with what the testbed offers"},
	"testbed/callbench":     {"internal/usage testbed testbed/ears testbed/nat testbed/wire", "calls are measured with what the testbed offers, at the end of the wire"},
	"testbed/audiobench":    {"audio/audiotest audio/portaudio audio/resample audio/wav internal/realtime internal/usage testbed testbed/wire", "calls are listened to with what the testbed offers, by a card of its own"},
	"testbed/compare":       {"netlink testbed/lab testbed/faults", "whoever compares must know all that are compared"},
}

// concrete are the drivers. Only firmware/hardware.go chooses among them, so
// that no other code can come to depend on one.
var concrete = []string{"hal/sim", "hal/display", "hal/gpio", "hal/evdev", "audio/portaudio", "audio/wav"}

func TestFloorPlan(t *testing.T) {
	documented := map[string]bool{} // by package: has a package comment
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || file == "build"):
			return filepath.SkipDir
		case d.IsDir() || path.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(filepath.Dir(file))
		documented[pkg] = documented[pkg] || f.Doc != nil
		place, ok := floorPlan[pkg]
		if !ok {
			// An internal package of a room is the room's own matter.
			if place, ok = ownRoom(pkg); !ok {
				t.Errorf("%s: package %s has no place in the floor plan", file, pkg)
				return nil
			}
		}
		for _, imp := range f.Imports {
			name, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				return err
			}
			if dep, ours := strings.CutPrefix(name, module); ours {
				checkImport(t, file, pkg, dep, place)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package comment", pkg)
		}
	}
	for pkg := range floorPlan {
		if _, ok := documented[pkg]; !ok {
			t.Errorf("the floor plan has a room %s, the house has none", pkg)
		}
	}
}

func checkImport(t *testing.T, file, pkg, dep string, place room) {
	t.Helper()
	if isEquipment(dep) && !isEquipment(pkg) {
		t.Errorf("%s imports %s: equipment is for tests", file, dep)
	}
	within := strings.HasPrefix(dep, pkg+"/internal/") // its own cellar
	if !within && place.imports != "*" && !slices.Contains(strings.Fields(place.imports), dep) {
		t.Errorf("%s imports %s, but %s may import only [%s]: %s", file, dep, pkg, place.imports, place.why)
	}
	if pkg == "firmware" && file != "firmware/hardware.go" && slices.Contains(concrete, dep) {
		t.Errorf("%s imports %s: only firmware/hardware.go chooses drivers", file, dep)
	}
}

func isEquipment(pkg string) bool {
	return pkg == equipment || strings.HasPrefix(pkg, equipment+"/")
}

// ownRoom returns the place of a package below the internal folder of a room:
// it may import what the room may, and its neighbours there.
func ownRoom(pkg string) (room, bool) {
	above, _, ok := strings.Cut(pkg, "/internal/")
	if !ok || above == "firmware" {
		return room{}, false
	}
	place, ok := floorPlan[above]
	if !ok {
		return room{}, false
	}
	neighbours, err := filepath.Glob(above + "/internal/*")
	if err != nil {
		return room{}, false
	}
	place.imports = strings.Join(append(neighbours, place.imports), " ")
	return place, true
}

// methodsByName are packages that call methods whose names they make at run time. With one of
// them in a program the linker keeps every method of every type that is used, a tenth of the
// phone's (docs/boards.md).
var methodsByName = []string{"text/template", "html/template", "net/rpc", "github.com/alecthomas/kong"}

func TestLinkerMayLeaveOut(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./firmware").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range strings.Fields(string(out)) {
		if slices.Contains(methodsByName, pkg) {
			t.Errorf("the phone imports %s, by which the linker has to keep all methods", pkg)
		}
	}
}
