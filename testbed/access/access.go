// Package access says what keeps people from using a page: those who hear it, see little,
// have the keyboard alone, or a narrow screen.
//
// It knows rules, most of them by the names that axe-core gives them, and asks the browser
// itself: for its tree of accessibility, its computed styles and its focus. It refuses to know
// what a page is for.
//
// # Why
//
// axe-core is no package of Debian's, and tests fetch nothing else. So the rules that apply to
// pages of headings, forms, tables, links and buttons are written anew (rules.js):
// html-has-lang, document-title, meta-viewport, meta-refresh, duplicate-id,
// aria-valid-attr-value, aria-allowed-role, aria-hidden-focus, landmark-one-main,
// landmark-unique, region, bypass, page-has-heading-one, heading-order, empty-heading,
// button-name, link-name, label, select-name, image-alt, label-content-name-mismatch, list,
// definition-list, empty-table-header, scope-attr-valid, tabindex, nested-interactive,
// target-size, color-contrast, link-in-text-block. Beside these: the contrast of controls' edges,
// reflow at 320 pixels, and a focus that is seen, goes from top to bottom and comes to all.
package access

import (
	"context"
	_ "embed"
	"fmt"

	"flexphone/testbed/webdriver"
)

//go:embed rules.js
var rules string

// A Report is what was looked at, and what is wrong with it.
type Report struct {
	Wrong    []string // a line each, which begins with the rule
	Least    float64  // contrast of a text
	Texts    int
	Controls int // that can be seen
	Named    int // of the tree of accessibility, which must have names
}

// Check looks at the page that a browser shows.
func Check(ctx context.Context, b *webdriver.Browser) (Report, error) {
	var r Report
	tree, err := treeOf(ctx, b)
	if err == nil {
		err = b.Run(ctx, rules, &r, tree)
	}
	if err != nil {
		return r, fmt.Errorf("access: look at the page: %w", err)
	}
	return r, nil
}

// A node is one of the tree of accessibility, and where it stands in the page.
type node struct {
	At   int    `json:"at"` // what the element's attribute data-access says
	Role string `json:"role"`
	Name string `json:"name"`
}

// treeOf asks for that tree, and marks each of its elements.
func treeOf(ctx context.Context, b *webdriver.Browser) ([]node, error) {
	type value struct {
		Value any `json:"value"`
	}
	var full struct {
		Nodes []struct {
			Ignored          bool  `json:"ignored"`
			Role, Name       value `json:",omitempty"`
			BackendDOMNodeID int   `json:"backendDOMNodeId"`
		} `json:"nodes"`
	}
	for _, command := range []string{"DOM.enable", "Accessibility.enable"} {
		if err := b.DevTools(ctx, command, nil, nil); err != nil {
			return nil, err
		}
	}
	if err := b.DevTools(ctx, "DOM.getDocument", map[string]any{"depth": 0}, nil); err != nil {
		return nil, err
	}
	if err := b.DevTools(ctx, "Accessibility.getFullAXTree", nil, &full); err != nil {
		return nil, err
	}
	var ids []int
	var out []node
	for _, n := range full.Nodes {
		role, _ := n.Role.Value.(string)
		name, _ := n.Name.Value.(string)
		if n.Ignored || n.BackendDOMNodeID == 0 || role == "StaticText" || role == "InlineTextBox" || role == "RootWebArea" {
			continue
		}
		ids = append(ids, n.BackendDOMNodeID)
		out = append(out, node{len(out), role, name})
	}
	var pushed struct {
		NodeIDs []int `json:"nodeIds"`
	}
	if err := b.DevTools(ctx, "DOM.pushNodesByBackendIdsToFrontend", map[string]any{"backendNodeIds": ids}, &pushed); err != nil {
		return nil, err
	}
	for i, id := range pushed.NodeIDs {
		if id == 0 {
			continue
		}
		// What is no element has no attributes, and no name that is asked for.
		_ = b.DevTools(ctx, "DOM.setAttributeValue", map[string]any{"nodeId": id, "name": "data-access", "value": fmt.Sprint(i)}, nil)
	}
	return out, nil
}

// focused says where the focus is, and how it shows.
const focused = `
const e = document.activeElement;
if (e === document.body || e === document.documentElement) return null;
const r = e.getBoundingClientRect(), s = getComputedStyle(e);
return { what: e.outerHTML.slice(0, 120), top: r.top + scrollY, bottom: r.bottom + scrollY, index: [...document.querySelectorAll("*")].indexOf(e),
  shown: s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2 && r.right > 0 && r.bottom + scrollY > 0 };`

// Walk goes through the page by the key Tab, from its beginning. It returns what is wrong:
// a focus that is not seen, one that goes back, or controls that it does not come to.
func Walk(ctx context.Context, b *webdriver.Browser) (wrong []string, steps int, err error) {
	var want int
	if err := b.Run(ctx, `
document.activeElement?.blur();
scrollTo(0, 0);
getSelection().removeAllRanges();
const first = document.createElement("span");
first.tabIndex = -1;
document.body.prepend(first);
first.focus();
first.remove();
return [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary")].filter(e => e.checkVisibility() && !e.disabled).length;`, &want); err != nil {
		return nil, 0, fmt.Errorf("access: walk: %w", err)
	}
	type at struct {
		What        string
		Top, Bottom float64
		Index       int
		Shown       bool
	}
	before := at{Index: -1}
	for ; steps < want; steps++ {
		if err := b.Press(ctx, webdriver.Tab); err != nil {
			return nil, steps, fmt.Errorf("access: walk: %w", err)
		}
		var now *at
		if err := b.Run(ctx, focused, &now); err != nil {
			return nil, steps, fmt.Errorf("access: walk: %w", err)
		}
		switch {
		case now == nil:
			wrong = append(wrong, fmt.Sprintf("focus-order: it comes to %d of %d controls, the last is %s", steps, want, before.What))
			return wrong, steps, nil
		case now.Index <= before.Index:
			wrong = append(wrong, "focus-order: it goes back to "+now.What)
		}
		if !now.Shown {
			wrong = append(wrong, "focus-visible: "+now.What)
		}
		before = *now
	}
	return wrong, steps, nil
}
