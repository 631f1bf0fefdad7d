// Puts a link to the outcome beside every task that a page of Flower shows.
//
// It looks for links to tasks and for the rows of the table of tasks, not for how Flower makes
// them. Where it finds none, the page stays as it is.
(function () {
    "use strict";

    var outcomes = new URL("outcome/", document.currentScript.src).href,
        uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

    function link(id, text, looks) {
        var made = document.createElement("a");
        made.href = outcomes + id;
        made.className = "outcome-link " + looks;
        made.title = "The outcome of this task in the admin";
        made.textContent = text;
        return made;
    }

    function inRow(row) {
        if (!uuid.test(row.id) || !row.cells.length || row.querySelector(".outcome-link")) {
            return;
        }
        var task = row.querySelector('a[href$="/task/' + row.id + '"]'),
            cell = task ? task.parentNode : row.cells[0];
        cell.appendChild(link(row.id, "outcome", "small ms-2"));
        // The heading takes its widths from the rows, and has done so already.
        window.dispatchEvent(new Event("resize"));
    }

    function besideLink(task) {
        var id = task.pathname.split("/").pop(),
            next = task.nextElementSibling;
        if (uuid.test(id) && !(next && next.classList.contains("outcome-link"))) {
            task.after(link(id, "outcome", "small ms-2"));
        }
    }

    function everywhere() {
        document.querySelectorAll("#tasks-table tbody tr").forEach(inRow);
        document.querySelectorAll('a[href*="/task/"]').forEach(besideLink);
    }

    var shown = document.getElementById("taskid"),
        id = shown && shown.textContent.trim(),
        place = shown && (document.querySelector(".detail-actions") || shown.parentNode);
    if (shown && uuid.test(id)) {
        place.appendChild(link(id, "Open outcome", "btn btn-outline-primary"));
    }
    everywhere();
    // The tables are filled later, and again and again.
    new MutationObserver(everywhere).observe(document.body, {childList: true, subtree: true});
}());
