document.addEventListener('click',e=>{const b=e.target.closest('button.copy');if(!b)return;
const done=()=>{const t=b.textContent;b.textContent='copied';setTimeout(()=>b.textContent=t,1200)};
const c=b.dataset.text;if(navigator.clipboard&&window.isSecureContext)navigator.clipboard.writeText(c).then(done);
else{const a=document.createElement('textarea');a.value=c;document.body.append(a);a.select();document.execCommand('copy');a.remove();done()}});
document.addEventListener('change',e=>{if(!e.target.matches('select[data-group]'))return;
document.querySelectorAll(`[data-of="${e.target.dataset.group}"]`).forEach(n=>{n.hidden=n.id!==e.target.value})});
